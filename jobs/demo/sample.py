"""The shipped sample: footfall by half hour and orders, read as they were recorded."""

import csv
from datetime import datetime
from pathlib import Path

import msgspec

DATA_DIR = Path(__file__).parent / "data"
SLOT_S = 1_800


class Slot(msgspec.Struct, frozen=True):
    """People counted in one half hour; `start_s` is seconds since the day's midnight."""

    start_s: int
    entries: int


class SampleLine(msgspec.Struct, frozen=True):
    """One order line, as recorded."""

    sku: str
    description: str | None
    quantity: int
    unit_price: float


class SampleOrder(msgspec.Struct, frozen=True):
    """One order, as recorded; `ordered_on` is left out, the API does not know it."""

    reference: str
    customer: str | None
    country: str | None
    lines: list[SampleLine]

    @property
    def body(self) -> bytes:
        """What is posted."""
        return msgspec.json.encode(self)

    @property
    def refusable(self) -> bool:
        """Whether the API must refuse it: nobody can deliver a quantity of zero or below."""
        return any(line.quantity <= 0 for line in self.lines)


def footfall() -> dict[str, list[Slot]]:
    """The slots of every day (YYYY-MM-DD), in order of time."""
    days: dict[str, list[Slot]] = {}
    with (DATA_DIR / "footfall.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            start = datetime.fromisoformat(row["slot_start"])
            slot = Slot(start.hour * 3_600 + start.minute * 60, int(row["entries"]))
            days.setdefault(start.date().isoformat(), []).append(slot)
    return days


def orders() -> list[SampleOrder]:
    """Every order of the sample."""
    return msgspec.json.Decoder(SampleOrder).decode_lines((DATA_DIR / "orders.jsonl").read_bytes())
