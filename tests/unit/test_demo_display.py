"""What the demo shows: its table and its bar."""

from collections import Counter

from jobs.demo.display import MAX_REASONS, bar, table
from jobs.demo.plan import Expected
from jobs.demo.verdict import Seen
from jobs.mall.orders import OrderView

EXPECTED = Expected(entries=1_000, again=10, broken=3, orders_accepted=3, orders_refused=2)


def order(order_id: str, status: str, reason: str | None = None) -> OrderView:
    return OrderView(order_id, "", status, "", 0.0, 0.0, [], "TS1", reason)


def seen() -> Seen:
    return Seen(
        accepted=1_000,
        counted=1_000,
        duplicates=10,
        rejected=Counter({"gate: too short": 3}),
        refused=Counter({"lines[].quantity: must be at least 1": 2}),
        orders={
            "a": order("a", "delivered"),
            "b": order("b", "dead", "carrier answered 422"),
            "c": order("c", "rejected", "no 85123A"),
        },
        repeated=4,
    )


def test_the_table_shows_every_figure_with_its_reason() -> None:
    assert table(EXPECTED, seen(), 12.5).splitlines() == [
        "Entries",
        "  sent           1,013  1,000 people, 10 sent again, 3 broken on purpose",
        "  accepted       1,000",
        "  counted        1,000",
        "  duplicates        10",
        "  rejected           3",
        "                     3  gate: too short",
        "Orders",
        "  sent               5",
        "  accepted           3",
        "  refused            2",
        "                     2  lines[].quantity: must be at least 1",
        "  delivered          1",
        "  rejected           1",
        "                     1  no 85123A",
        "  cancelled          0",
        "  dead               1",
        "                     1  carrier answered 422",
        "12.5 seconds, 4 requests repeated",
    ]


def test_the_table_names_the_commonest_reasons() -> None:
    many = seen()
    many.refused = Counter({f"reason {number:02}": number for number in range(1, MAX_REASONS + 3)})
    text = table(EXPECTED, many, 1.0)
    assert "reason 10" in text
    assert "reason 02" not in text


def test_the_bar_is_drawn_over_the_one_before() -> None:
    assert bar(1, 4, "a quarter") == "\r[########......................]  25%  a quarter\x1b[K"
    assert "100%" in bar(4, 4, "all")
