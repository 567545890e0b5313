"""Does it add up? What a run saw, against what its data say it must see: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobs.demo.plan import Expected

TERMINAL = ("delivered", "rejected", "cancelled", "dead")
MAX_NAMED = 3


@dataclass(slots=True)
class SeenEntries:
    """Sums over the answers to POST /v1/entries, and the counted series of the run's own gate before and after."""

    accepted: int = 0
    duplicates: int = 0
    uncertain: int = 0
    """Valid lines of requests that were sent again after a lost answer: any of them may be called a duplicate rightly."""
    rejected: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    counted_before: int = 0
    counted_after: int = 0
    pending: int = 0


@dataclass(slots=True)
class SeenOrder:
    """One accepted order as last read; `ends` are all the terminal statuses it was seen or listed in."""

    status: str = "accepted"
    reason: str = ""
    tracking_number: str = ""
    ends: set[str] = field(default_factory=set)
    listed_in: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Seen:
    """What a run saw. `faults` are answers against the contract and requests given up, in words, with those they befell."""

    entries: SeenEntries = field(default_factory=SeenEntries)
    orders: dict[str, SeenOrder] = field(default_factory=dict)
    orders_answered_202: int = 0
    refused: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    summaries: int = 0
    unbalanced: list[str] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, what: str, whose: str = "") -> None:
        """Writes down something against the contract, and whose request or order it was."""
        self.faults.setdefault(what, []).append(whose)

    def ended(self, status: str) -> int:
        """How many accepted orders stand in the status."""
        return sum(order.status == status for order in self.orders.values())

    def reasons(self, status: str) -> Counter[str]:
        """Why orders ended in the status."""
        return Counter(order.reason or "no reason given" for order in self.orders.values() if order.status == status)


def discrepancies(expected: Expected, seen: Seen) -> list[str]:
    """Everything that does not add up, in words; empty when all does."""
    return [*_grouped(seen.faults), *_entries(expected, seen.entries), *_summaries(seen), *_orders(expected, seen)]


def _entries(expected: Expected, seen: SeenEntries) -> list[str]:
    found = []
    valid = expected.entries + expected.again
    if seen.accepted + seen.duplicates != valid:
        found.append(f"{valid} valid entries sent, but {seen.accepted} accepted + {seen.duplicates} duplicates answered")
    # A lost answer hides acceptances behind duplicates, at most as many as its lines; the count below stays exact.
    if not expected.entries - seen.uncertain <= seen.accepted <= expected.entries:
        found.append(f"{expected.entries} distinct entries sent, but {seen.accepted} accepted")
    grown = seen.counted_after - seen.counted_before
    if grown != expected.entries:
        found.append(f"{expected.entries} distinct entries sent, but the counted series grew by {grown}")
    if seen.rejected != expected.broken:
        found.append(f"broken entries sent: {_listed(expected.broken)}; rejected: {_listed(seen.rejected)}")
    if seen.pending:
        found.append(f"{seen.pending} entries still pending at the end")
    return found


def _summaries(seen: Seen) -> list[str]:
    if not seen.summaries:
        return ["the summary was never read"]
    if seen.unbalanced:
        return [f"accepted != counted + pending in {len(seen.unbalanced)} of {seen.summaries} summaries: {seen.unbalanced[0]}"]
    return []


def _orders(expected: Expected, seen: Seen) -> list[str]:
    found = []
    if seen.orders_answered_202 != expected.orders_accepted:
        found.append(f"{expected.orders_accepted} orders must be accepted, but {seen.orders_answered_202} were")
    if len(seen.orders) != seen.orders_answered_202:
        found.append(f"{seen.orders_answered_202} orders accepted, but {len(seen.orders)} distinct ids given out")
    if seen.refused != expected.orders_refused:
        found.append(f"{expected.orders_refused} orders must be refused, but {seen.refused} were")
    wrong: dict[str, list[str]] = {}
    for order_id, order in seen.orders.items():
        if what := _order(order):
            wrong.setdefault(what, []).append(order_id)
    return found + _grouped(wrong)


def _order(order: SeenOrder) -> str:
    """What is wrong with one order, if anything."""
    if order.status not in TERMINAL:
        return f"order has not ended, it is {order.status}"
    if order.ends != {order.status}:
        return f"order was seen to end as {' and as '.join(sorted(order.ends)) or 'nothing'}"
    if order.listed_in != {order.status}:
        return f"order is {order.status}, but listed under {' and '.join(sorted(order.listed_in)) or 'no ended status'}"
    if order.status == "delivered" and not order.tracking_number:
        return "order is delivered without a tracking number"
    return ""


def _grouped(faults: Mapping[str, Sequence[str]]) -> list[str]:
    """One line a kind of fault, with the first few that it befell."""
    found = []
    for what, whose in faults.items():
        named = [name for name in whose if name]
        some = ", ".join(named[:MAX_NAMED]) + (", ..." if len(named) > MAX_NAMED else "")
        found.append(f"{len(whose)} x {what}{f': {some}' if some else ''}")
    return found


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in sorted(counts.items())) or "none"
