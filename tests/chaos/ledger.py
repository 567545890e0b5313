"""A history read once: what became of each request, what was done to each order, and the snapshots that do not add up.

Pure, and linear in the records: of a request only its outcome is kept, however often it was sent.
"""

import math
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from history import Kind, Op, Record, Snap

ENTRIES = (Op.ENTRY, Op.ENTRIES)
CRASHES = 2
"""Faults at least until a job is quarantined: it takes three crashes in a row, of which `samples.crash` makes one itself."""
HARMLESS = ("web", "carrier")
"""The roles whose faults crash no job."""


@dataclass(slots=True)
class Told:
    """What a request said, and what was answered. `unknown`: an attempt before the answer got none."""

    op: Op
    id: str
    asked_at: float
    n: int = 0
    people: int = 0
    gate: str = ""
    minute: str = ""
    refusable: bool = False
    delay_s: float = 0.0
    expected: Any = None
    failures: int = 0
    unknown: bool = False
    kind: Kind | None = None
    answered_at: float = 0.0
    status: int = 0
    answer: str = ""
    replayed: bool = False
    accepted: int = 0
    duplicates: int = 0

    @property
    def ok(self) -> bool:
        """Whether it was answered that it is done, or will be."""
        return self.kind is Kind.OK

    @property
    def recovered(self) -> bool:
        """Whether a later answer told that what had got none was done all the same."""
        return self.ok and self.unknown and (self.replayed or self.duplicates > 0)


class Sums:
    """How many there were until each instant."""

    def __init__(self) -> None:
        self._at, self._sum = array("d"), array("q", [0])

    @property
    def all(self) -> int:
        """So far."""
        return self._sum[-1]

    def add(self, at: float, n: int) -> None:
        """So many more at that instant, which is not before the last one."""
        self._at.append(at)
        self._sum.append(self.all + n)

    def before(self, at: float) -> int:
        """So many before that instant."""
        return self._sum[bisect_left(self._at, at)]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong that a record shows by itself."""

    record: Record
    kind: str
    reason: str


@dataclass(slots=True)
class Ledger:
    """The whole history in short."""

    told: dict[Op, dict[str, Told]] = field(default_factory=lambda: {op: {} for op in Op})
    paths: defaultdict[str, list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))
    faults: list[Record] = field(default_factory=list)
    wrong: list[Fault] = field(default_factory=list)
    repeats: Counter[Op] = field(default_factory=Counter)
    snapshots: int = 0
    sent: dict[str, Sums] = field(default_factory=lambda: {name: Sums() for name in ("entries", "orders")})
    done: dict[str, Sums] = field(default_factory=lambda: {name: Sums() for name in ("entries", "orders")})

    @classmethod
    def of(cls, history: Iterable[Record]) -> "Ledger":
        """Reads it from its beginning to its end."""
        ledger = cls()
        for record in history:
            ledger.take(record)
        return ledger

    def take(self, record: Record) -> None:
        """The next record."""
        if record.kind is Kind.FAULT:
            self.faults.append(record)
        elif record.kind is Kind.SNAPSHOT:
            self._look(record)
        elif record.kind is Kind.INVOKE:
            self._invoke(record, Op(record.op))
        else:
            self._answer(record, Op(record.op))

    def _invoke(self, record: Record, op: Op) -> None:
        if record.repeat or record.id in self.told[op]:
            self.repeats[op] += record.repeat
            return
        self.told[op][record.id] = Told(
            op,
            record.id,
            record.at,
            record.n,
            record.people,
            record.gate,
            record.minute,
            record.refusable,
            record.delay_s,
            record.expected,
            record.failures,
        )
        self._add(self.sent, op, record.at, record.n)

    def _answer(self, record: Record, op: Op) -> None:
        told = self.told[op].get(record.id)
        if told is None:
            self.wrong.append(Fault(record, "unexpected", "an answer to nothing that was asked"))
        elif record.repeat:
            self._again(record, told)
        elif record.kind is Kind.INFO:
            told.unknown = True
        else:
            told.kind, told.answered_at, told.status, told.answer = record.kind, record.at, record.status, record.answer
            told.replayed, told.accepted, told.duplicates = record.replayed, record.accepted, record.duplicates
            if record.kind is Kind.OK:
                self._add(self.done, op, record.at, told.n)

    def _again(self, record: Record, told: Told) -> None:
        if record.kind is Kind.INFO or told.kind is None:
            return
        if record.kind is not told.kind:
            self.wrong.append(Fault(record, "lost", f"sent again it was answered {record.kind}, and {told.kind} before"))
        elif record.accepted:
            self.wrong.append(Fault(record, "duplicated", f"of events answered before {record.accepted} were taken once more"))
        elif record.answer != told.answer:
            self.wrong.append(Fault(record, "duplicated", f"sent again it became {record.answer}, and was {told.answer}"))
        elif told.op in (Op.ORDER, Op.JOB) and record.kind is Kind.OK and not record.replayed:
            self.wrong.append(Fault(record, "duplicated", "sent again it was done as if it were new"))

    def _add(self, sums: dict[str, Sums], op: Op, at: float, n: int) -> None:
        if op in ENTRIES:
            sums["entries"].add(at, n)
        elif op is Op.ORDER:
            sums["orders"].add(at, 1)

    def _look(self, record: Record) -> None:
        if record.op == Snap.EVENTS:
            for order_id, status, at in record.events:
                self.paths[order_id].append((status, at))
            return
        self.snapshots += 1
        numbers = record.numbers
        if record.op == Snap.STOCK:
            if not 0 <= numbers["reserved"] <= numbers["on_hand"]:
                self.wrong.append(Fault(record, "I7", f"stock in a snapshot: {numbers}"))
            return
        kind = "entries" if record.op == Snap.SUMMARY else "orders"
        if kind == "entries":
            known, parts = numbers["accepted"], numbers["counted"] + numbers["pending"]
            bad = numbers["pending"] < 0
        else:
            known, parts = numbers["known"], sum(n for name, n in numbers.items() if name not in ("known", "open"))
            bad = False
        least, most = self.done[kind].before(record.asked_at), self.sent[kind].all
        if known != parts or bad:
            self.wrong.append(Fault(record, "I4", f"{kind} in a snapshot do not add up: {numbers}"))
        elif known < least:
            self.wrong.append(Fault(record, "I4", f"{least} {kind} had been answered, the snapshot knows {known}"))
        elif known > most:
            self.wrong.append(Fault(record, "I4", f"{most} {kind} had been sent, the snapshot knows {known}"))


def amiss(faults: Iterable[Record], since: float, until: float) -> int:
    """How many of the faults lasted at some time in between."""
    return sum(fault.began_at <= until and (fault.healed_at or fault.at) >= since for fault in faults)


def crashes(faults: Iterable[Record], since: float, until: float = math.inf) -> int:
    """How many of them can have crashed a job."""
    return amiss((fault for fault in faults if fault.role not in HARMLESS), since, until)
