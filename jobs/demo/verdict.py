"""Does it add up? What a run saw, against what its data say it must see: pure."""

from collections import Counter
from dataclasses import dataclass, field

from jobs.demo.plan import Expected
from jobs.mall.orders import ENDED, OrderView


@dataclass(slots=True)
class Seen:
    """What a run saw: sums over the answers, the orders as last read, and in `faults` what was wrong by itself, in words."""

    accepted: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    counted: int = 0
    pending: int = 0
    orders: dict[str, OrderView] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    repeated: int = 0

    def reasons(self, status: str) -> Counter[str]:
        """How many orders ended in the status, by reason."""
        return Counter(order.reason or "no reason given" for order in self.orders.values() if order.status == status)


def discrepancies(expected: Expected, seen: Seen) -> list[str]:
    """Everything that does not add up, in words; empty when all does."""
    accepted = seen.accepted
    if seen.repeated:  # an answer may be lost, and its repetition calls the entry a duplicate: the count stays exact
        accepted = max(accepted, expected.entries)
    figures = [
        ("entries accepted", expected.entries, accepted),
        ("entries accepted or called duplicates", expected.entries + expected.again, seen.accepted + seen.duplicates),
        ("entries counted", expected.entries, seen.counted),
        ("entries pending at the end", 0, seen.pending),
        ("broken entries rejected", expected.broken, seen.rejected.total()),
        ("orders accepted", expected.orders_accepted, len(seen.orders)),
        ("orders refused", expected.orders_refused, seen.refused.total()),
    ]
    found = [f"{what}: {due} expected, {was} seen" for what, due, was in figures if was != due] + seen.faults
    for order in seen.orders.values():
        if order.status not in ENDED:
            found.append(f"order {order.id} has not ended, it is {order.status}")
        elif order.status == "delivered" and not order.tracking_number:
            found.append(f"order {order.id} is delivered without a tracking number")
    return found
