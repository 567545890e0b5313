"""Does it add up? What a run saw, beside what its data say it must see: pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.demo.plan import EntryPost
from jobs.demo.sample import SampleOrder
from jobs.mall.orders import ENDED, OrderView

MAX_ENDS = 10

Figure = tuple[str, int, int]
"""What is counted, how many there must be, how many there were."""


@dataclass(slots=True)
class Seen:
    """What a run saw: sums over the answers, the orders as last read, and in `faults` what was wrong by itself, in words."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    counted: int = 0
    pending: int = 0
    orders: dict[str, OrderView] = field(default_factory=dict)
    refused: int = 0
    faults: list[str] = field(default_factory=list)
    repeated: int = 0

    @property
    def ends(self) -> Counter[str]:
        """How many orders ended in which way."""
        ended = (order for order in self.orders.values() if order.status in ENDED)
        return Counter(f"{order.status}: {order.reason}" if order.reason else order.status for order in ended)


def figures(slots: Sequence[int], posts: Sequence[EntryPost], orders: Sequence[SampleOrder], seen: Seen) -> list[Figure]:
    """What must add up. The people come from the record itself, not from the plan."""
    people, broken = sum(slots), sum(len(post.broken) for post in posts)
    refused = sum(order.refusable for order in orders)
    # An answer may be lost, and its repetition calls the entry a duplicate: the count stays exact.
    accepted = max(seen.accepted, seen.counted) if seen.repeated else seen.accepted
    return [
        ("entries accepted", people, accepted),
        (
            "entries accepted or called duplicates",
            sum(len(post.lines) for post in posts) - broken,
            seen.accepted + seen.duplicates,
        ),
        ("entries counted", people, seen.counted),
        ("entries pending at the end", 0, seen.pending),
        ("broken entries rejected", broken, seen.rejected),
        ("orders accepted", len(orders) - refused, len(seen.orders)),
        ("orders ended", len(orders) - refused, seen.ends.total()),
        ("orders refused", refused, seen.refused),
    ]


def table(found: Sequence[Figure], seen: Seen) -> str:
    """Every figure, and how the orders ended."""
    rows = [f"{'':<40}{'expected':>9}{'seen':>9}", *(f"{name:<40}{due:>9,}{was:>9,}" for name, due, was in found)]
    rows += [f"  {n:,} {end}" for end, n in seen.ends.most_common(MAX_ENDS)]
    return "\n".join([*rows, f"requests repeated: {seen.repeated}"])


def discrepancies(found: Sequence[Figure], seen: Seen) -> list[str]:
    """Everything that does not add up, in words; empty when all does."""
    wrong = [f"{name}: {due} expected, {was} seen" for name, due, was in found if was != due]
    for order in seen.orders.values():
        if order.status not in ENDED or (order.status == "delivered" and not order.tracking_number):
            wrong.append(f"order {order.id} is {order.status}, its tracking number {order.tracking_number!r}")
    return wrong + seen.faults
