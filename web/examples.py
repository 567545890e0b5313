"""Bodies that the API's document shows; the order is the second of the sample that `python3 -m jobs demo` sends."""

import msgspec

ENTRY = {"gate": "main door", "event_id": "main-door-2005-07-25T08:30-1", "count": 2}
ENTRIES = "".join(
    msgspec.json.encode({"gate": "main door", "sensor": "camera 1", "seq": seq, "direction": direction}).decode() + "\n"
    for seq, direction in enumerate(("in", "in", "out"))
)
ORDER = {
    "reference": "536366",
    "customer": "17850",
    "country": "United Kingdom",
    "lines": [
        {"sku": "22633", "description": "HAND WARMER UNION JACK", "quantity": 6, "unit_price": 1.85},
        {"sku": "22632", "description": "HAND WARMER RED POLKA DOT", "quantity": 6, "unit_price": 1.85},
    ],
}
