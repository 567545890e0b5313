"""The adding-up bites: a run that saw what it must has no discrepancy, every single deviation has one."""

from collections.abc import Callable

import msgspec
import pytest

from jobs.demo.plan import EntryPost
from jobs.demo.sample import SampleOrder
from jobs.demo.verdict import Seen, discrepancies, figures, table
from jobs.mall.orders import Line, OrderView

POSTS = [EntryPost(0.0, (b"",) * 115, broken=(1, 2, 3, 4, 5))]
ORDERS = [SampleOrder([Line("a", quantity)]) for quantity in (1, 1, 1, 1, 0)]


def wrong(seen: Seen) -> list[str]:
    return discrepancies(figures([60, 40], POSTS, ORDERS, seen), seen)


def good() -> Seen:
    seen = Seen(accepted=100, duplicates=10, counted=100, rejected=5, refused=1)
    for order_id, status in zip("abcd", ("delivered", "rejected", "cancelled", "dead"), strict=True):
        seen.orders[order_id] = OrderView(order_id, "", status, "", 0.0, 0.0, [], "TS1" if status == "delivered" else None)
    return seen


def test_a_run_that_saw_what_it_must_adds_up() -> None:
    assert wrong(good()) == []


def one_entry_more(seen: Seen) -> None:
    seen.accepted += 1


def one_duplicate_less(seen: Seen) -> None:
    seen.duplicates -= 1


def acceptance_taken_for_a_duplicate(seen: Seen) -> None:
    seen.accepted -= 1
    seen.duplicates += 1


def counted_once_too_often(seen: Seen) -> None:
    seen.counted += 1


def one_not_counted(seen: Seen) -> None:
    seen.counted -= 1


def still_pending(seen: Seen) -> None:
    seen.pending = 1


def good_line_rejected(seen: Seen) -> None:
    seen.rejected += 1


def fault_in_an_answer(seen: Seen) -> None:
    seen.faults.append("GET /v1/orders: answered 500: boom")


def order_lost(seen: Seen) -> None:
    del seen.orders["a"]


def dirty_order_not_refused(seen: Seen) -> None:
    seen.refused = 0


def order_still_open(seen: Seen) -> None:
    seen.orders["a"] = msgspec.structs.replace(seen.orders["a"], status="packing")


def delivered_without_tracking_number(seen: Seen) -> None:
    seen.orders["a"] = msgspec.structs.replace(seen.orders["a"], tracking_number=None)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (one_entry_more, "entries accepted: 100 expected, 101 seen"),
        (one_duplicate_less, "entries accepted or called duplicates: 110 expected, 109 seen"),
        (acceptance_taken_for_a_duplicate, "entries accepted: 100 expected, 99 seen"),
        (counted_once_too_often, "entries counted: 100 expected, 101 seen"),
        (one_not_counted, "entries counted: 100 expected, 99 seen"),
        (still_pending, "entries pending at the end: 0 expected, 1 seen"),
        (good_line_rejected, "broken entries rejected: 5 expected, 6 seen"),
        (fault_in_an_answer, "GET /v1/orders: answered 500: boom"),
        (order_lost, "orders accepted: 4 expected, 3 seen"),
        (dirty_order_not_refused, "orders refused: 1 expected, 0 seen"),
        (order_still_open, "orders ended: 4 expected, 3 seen"),
        (order_still_open, "order a is packing, its tracking number 'TS1'"),
        (delivered_without_tracking_number, "order a is delivered, its tracking number None"),
    ],
)
def test_each_deviation_is_found_and_named(spoil: Callable[[Seen], None], says: str) -> None:
    seen = good()
    spoil(seen)
    assert says in wrong(seen)


def test_after_a_repeated_request_acceptances_may_hide_behind_duplicates_but_the_count_may_not_differ() -> None:
    seen = good()
    seen.repeated = 1
    acceptance_taken_for_a_duplicate(seen)
    assert wrong(seen) == []
    one_not_counted(seen)
    assert "entries counted: 100 expected, 99 seen" in wrong(seen)


def test_the_table_shows_every_figure_and_how_the_orders_ended() -> None:
    seen = good()
    seen.orders["d"] = msgspec.structs.replace(seen.orders["d"], reason="carrier answered 422")
    assert [line.rsplit(maxsplit=2) for line in table(figures([60, 40], POSTS, ORDERS, seen), seen).splitlines()[:9]] == [
        ["expected", "seen"],
        ["entries accepted", "100", "100"],
        ["entries accepted or called duplicates", "110", "110"],
        ["entries counted", "100", "100"],
        ["entries pending at the end", "0", "0"],
        ["broken entries rejected", "5", "5"],
        ["orders accepted", "4", "4"],
        ["orders ended", "4", "4"],
        ["orders refused", "1", "1"],
    ]
    assert table([], seen).splitlines()[1:] == [
        "  1 delivered",
        "  1 rejected",
        "  1 cancelled",
        "  1 dead: carrier answered 422",
        "requests repeated: 0",
    ]
