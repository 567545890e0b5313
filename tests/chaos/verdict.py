"""What a run has shown: what became of all that was sent, how soon the system was back after each fault, what is wrong.

Recovery, three ways, in seconds for each fault. The fault's end is `healed_at`, which for a kill is when the process was started
again, and `began_at` where it has none:
- `served`: from its end to the answer to the first order or entry that was sent after it;
- `moved`: from its beginning until an order moves on by the role that it struck (a picker: an order begins to be packed);
- `caught_up`: from its beginning until every order that was open then has ended, but for those that were to start later. Faults
  that came meanwhile prolong it.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from checker import Violation, check
from history import Kind, Op, Record
from ledger import ENTRIES, Ledger
from observed import Final

from jobs.mall.orders import ENDED, Status

MOVES = {"picker": Status.PACKING, "packer": Status.DELIVERING, "courier": Status.DELIVERED}
"""By the beginning of a role's name: the status that an order has when it leaves this role's hands."""
SHOWN = 20
RECORDS = 12


class Spread(msgspec.Struct, frozen=True):
    """How long it took, in seconds."""

    n: int
    p50: float
    p99: float
    max: float

    def __str__(self) -> str:
        return f"p50 {self.p50:.2f} s, p99 {self.p99:.2f} s, max {self.max:.2f} s of {self.n:,}" if self.n else "none"


class Row(msgspec.Struct, frozen=True):
    """One kind of request, and the events of entries. `recovered`: had no answer at first, and a later one said it was done."""

    op: str
    sent: int
    events: int
    answered: int
    refused: int
    unknown: int
    repeated: int
    recovered: int
    lost: int
    duplicated: int


class Verdict(msgspec.Struct, frozen=True):
    """The whole; `faults` counts them by name and role."""

    passed: bool
    seconds: float
    rows: list[Row]
    snapshots: int
    orders: dict[str, int]
    faults: dict[str, int]
    served: Spread
    moved: Spread
    caught_up: Spread
    end_to_end: Spread
    violations: list[Violation]

    def plain(self) -> object:
        """As JSON has it."""
        return msgspec.to_builtins(self)

    @property
    def exit_code(self) -> int:
        """Of the command."""
        return 0 if self.passed else 1

    def __str__(self) -> str:
        head = ("", "sent", "events", "answered", "refused", "unknown", "sent again", "recovered", "LOST", "DOUBLED")
        rows = [head, *(tuple(f"{v:,}" if isinstance(v, int) else v for v in msgspec.structs.astuple(row)) for row in self.rows)]
        lines = ["".join(f"{cell:>{12 if n else 8}}" for n, cell in enumerate(row)) for row in rows]
        lines += [f"orders: {', '.join(f'{n:,} {status}' for status, n in self.orders.items())}; {self.snapshots:,} snapshots"]
        lines += [
            f"{sum(self.faults.values())} faults in {self.seconds:.0f} s: {', '.join(f'{n} {f}' for f, n in self.faults.items())}"
        ]
        lines += [f"served again: {self.served}", f"moved on: {self.moved}", f"caught up: {self.caught_up}"]
        lines += [f"accepted to ended: {self.end_to_end}"]
        for violation in self.violations[:SHOWN]:
            lines += ["", f"{violation.kind.upper()} {violation.id}: {violation.reason}", *_story(violation)]
        if len(self.violations) > SHOWN:
            lines += ["", f"... and {len(self.violations) - SHOWN} more violations"]
        lines += [
            "",
            f"{len(self.violations)} violations" if self.violations else "nothing lost, nothing doubled, nothing unlawful",
        ]
        return "\n".join(lines)


def judge(history: Iterable[Record], final: Final) -> Verdict:
    """Reads the history, checks it, and measures. The history must bear to be read twice."""
    ledger = Ledger.of(history)
    violations = check(history, final, ledger)
    answered = [t for op in (Op.ORDER, *ENTRIES) for t in ledger.told[op].values() if t.ok and not t.unknown]
    began_at = min((t.asked_at for told in ledger.told.values() for t in told.values()), default=0.0)
    ended_at = max((t.answered_at for told in ledger.told.values() for t in told.values()), default=0.0)
    ends = [(t.answered_at, path[-1][1], t.delay_s) for t in ledger.told[Op.ORDER].values() if (path := _ended(ledger, t.answer))]
    return Verdict(
        passed=not violations,
        seconds=ended_at - began_at,
        rows=[_row(op, ledger, violations) for op in Op if ledger.told[op]],
        snapshots=ledger.snapshots,
        orders=dict(Counter(order.status for order in final.orders.values()).most_common()),
        faults=dict(Counter(f"{fault.op} {fault.role}".strip() for fault in ledger.faults).most_common()),
        served=_spread(_served(ledger.faults, sorted((t.asked_at, t.answered_at) for t in answered))),
        moved=_spread(_moved(ledger)),
        caught_up=_spread(_caught_up(ledger.faults, [(told_at, end) for told_at, end, delayed in ends if not delayed])),
        end_to_end=_spread([max(0.0, end - told_at) for told_at, end, delayed in ends if not delayed]),
        violations=violations,
    )


def _ended(ledger: Ledger, order_id: str) -> list[tuple[str, float]]:
    path = ledger.paths.get(order_id, [])
    return path if path and path[-1][0] in ENDED else []


def _row(op: Op, ledger: Ledger, violations: Sequence[Violation]) -> Row:
    told = ledger.told[op].values()
    ids = ledger.told[op].keys() | {t.answer for t in told} | {f"{t.gate} {t.minute}" for t in told if t.gate}
    wrong = Counter(violation.kind for violation in violations if violation.id in ids)
    return Row(
        op,
        len(told),
        sum(t.n for t in told) if op in ENTRIES else 0,
        sum(t.ok for t in told),
        sum(t.kind is Kind.FAIL for t in told),
        sum(t.kind is None for t in told),
        ledger.repeats[op],
        sum(t.recovered for t in told),
        wrong["lost"],
        wrong["duplicated"],
    )


def _served(faults: Sequence[Record], answered: Sequence[tuple[float, float]]) -> list[float]:
    """The first answer to anything sent later is the least of what follows in the order of sending."""
    first, found = math.inf, []
    soonest = [first := min(first, answered_at) for _asked_at, answered_at in reversed(answered)][::-1]
    for fault in faults:
        over_at = fault.healed_at or fault.began_at
        number = bisect_left(answered, (over_at, 0.0))
        if number < len(soonest):
            found.append(soonest[number] - over_at)
    return found


def _moved(ledger: Ledger) -> list[float]:
    at: dict[str, list[float]] = {status.value: [] for status in MOVES.values()}
    for path in ledger.paths.values():
        for status, moved_at in path:
            if status in at:
                at[status].append(moved_at)
    for moves in at.values():
        moves.sort()
    found = []
    for fault in ledger.faults:
        for role, status in MOVES.items():
            if fault.role.startswith(role) and (number := bisect_left(at[status], fault.began_at)) < len(at[status]):
                found.append(at[status][number] - fault.began_at)
    return found


def _caught_up(faults: Sequence[Record], orders: Sequence[tuple[float, float]]) -> list[float]:
    """Orders as (answered_at, ended_at); the latest end of all that were answered before it."""
    by_answer, latest = sorted(orders), 0.0
    latest_of = [latest := max(latest, ended_at) for _answered_at, ended_at in by_answer]
    found = []
    for fault in faults:
        number = bisect_left(by_answer, (fault.began_at, 0.0))
        if number:
            found.append(max(0.0, latest_of[number - 1] - fault.began_at))
    return found


def _spread(values: Sequence[float]) -> Spread:
    if not values:
        return Spread(0, 0.0, 0.0, 0.0)
    ordered = sorted(values)
    return Spread(len(ordered), *(ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99, 1.0)))


def _story(violation: Violation) -> list[str]:
    """Its records, and as many of the faults among them as there is room for."""
    own = [record for record in violation.history if record.kind is not Kind.FAULT]
    faults = [record for record in violation.history if record.kind is Kind.FAULT]
    kept = {id(record) for record in [*own[:RECORDS], *faults[: max(0, RECORDS - len(own))]]}
    lines = [_line(record) for record in violation.history if id(record) in kept]
    if left := len(violation.history) - len(lines):
        lines.append(f"  ... and {left} more records")
    return lines


def _line(record: Record) -> str:
    fields = msgspec.to_builtins(record)
    rest = {name: value for name, value in fields.items() if name not in ("at", "kind", "op", "id", "process")}
    said = ", ".join(f"{name}={value}" for name, value in rest.items())
    return f"  {record.at:.3f} {record.process or '-':>10} {record.kind:>8} {record.op} {record.id} {said}"
