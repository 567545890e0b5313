"""The table at the end of a demo: pure text from figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from jobs.demo.plan import Expected
from jobs.demo.verdict import Seen

MAX_REASONS = 8


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds: `sending_s` until the last request was answered, `total_s` until everything had ended. `retries` of requests."""

    sending_s: float
    total_s: float
    retries: int


@dataclass(frozen=True, slots=True)
class Row:
    """One line; `depth` indents, a row without a figure is a heading."""

    depth: int
    name: str
    figure: str = ""
    note: str = ""


def table(expected: Expected, seen: Seen, took: Took) -> str:
    """The whole table."""
    rows = [*_entry_rows(expected, seen), *_order_rows(expected, seen), *_time_rows(expected, took)]
    width = max(len(row.name) + 2 * row.depth for row in rows)
    figures = max(len(row.figure) for row in rows)
    return "\n".join(f"{'  ' * row.depth + row.name:<{width}}  {row.figure:>{figures}}  {row.note}".rstrip() for row in rows)


def _entry_rows(expected: Expected, seen: Seen) -> list[Row]:
    entries = seen.entries
    made_of = f"{_n(expected.entries)} people, {_n(expected.again)} sent again, {_n(expected.broken.total())} broken on purpose"
    doubt = (
        f"{_n(entries.uncertain)} were sent again after a lost answer, which may call them duplicates"
        if entries.uncertain
        else ""
    )
    return [
        Row(0, "Entries"),
        Row(1, "sent", _n(expected.entries_sent), made_of),
        Row(1, "accepted", _n(entries.accepted), doubt),
        Row(1, "counted", _n(entries.counted_after - entries.counted_before)),
        Row(1, "duplicates", _n(entries.duplicates)),
        Row(1, "rejected", _n(entries.rejected.total())),
        *(Row(2, kind, _n(n), entries.reasons.get(kind, "")) for kind, n in sorted(entries.rejected.items())),
    ]


def _order_rows(expected: Expected, seen: Seen) -> list[Row]:
    rows = [
        Row(0, "Orders"),
        Row(1, "sent", _n(expected.orders_accepted + expected.orders_refused)),
        Row(1, "accepted", _n(seen.orders_answered_202)),
        Row(1, "refused", _n(seen.refused), "HTTP 422"),
        *_reason_rows(seen.refusals),
        Row(1, "delivered", _n(seen.ended("delivered"))),
    ]
    for status in ("rejected", "cancelled", "dead"):
        rows += [Row(1, status, _n(seen.ended(status))), *_reason_rows(seen.reasons(status))]
    return rows


def _time_rows(expected: Expected, took: Took) -> list[Row]:
    orders = expected.orders_accepted + expected.orders_refused
    sending_s = max(took.sending_s, 0.001)
    return [
        Row(0, "Time"),
        Row(1, "seconds", f"{took.total_s:.1f}", f"{took.sending_s:.1f} of them sending; {took.retries} requests repeated"),
        Row(1, "entries/s", f"{expected.entries_sent / sending_s:.1f}"),
        Row(1, "orders/s", f"{orders / sending_s:.1f}"),
    ]


def _reason_rows(reasons: Counter[str]) -> list[Row]:
    shown = reasons.most_common(MAX_REASONS)
    rest = reasons.total() - sum(n for _, n in shown)
    rows = [Row(2, "", _n(n), reason) for reason, n in shown]
    return [*rows, Row(2, "", _n(rest), "other reasons")] if rest else rows


def _n(figure: int) -> str:
    return f"{figure:,}"
