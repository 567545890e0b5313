"""The record of a run: everything that was asked, answered, seen and done to the system, one JSON line each, outside the system.

A line is in the file before the next thing is done, so that a run that was killed can be judged as far as it came.
"""

import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec


class Kind(StrEnum):
    """What a record says: of a request, that it begins, was done, was refused, or got no answer that tells; or something else."""

    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"
    INFO = "info"
    FAULT = "fault"
    SNAPSHOT = "snapshot"


class Op(StrEnum):
    """What a request asks for. `entry` is one event, `entries` a body of many, `item` one of a batch."""

    ENTRY = "entry"
    ENTRIES = "entries"
    ORDER = "order"
    CANCEL = "cancel"
    JOB = "job"
    CANVAS = "canvas"
    ITEM = "item"
    STOCK = "stock"


class Snap(StrEnum):
    """What a snapshot shows: the count, as the API has it; the orders by status; one SKU's stock; changes of orders."""

    SUMMARY = "summary"
    ORDERS = "orders"
    STOCK = "stock"
    EVENTS = "events"


class Record(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One line. Instants are Unix seconds of the harness' clock; fields that say nothing are left out.

    `op` is an Op, a Snap, or the name of a fault, and `id` what it is about: a request keeps it in all its attempts. A body of
    many entries has the event ids `<id>-0` to `<id>-<n - 1>`, and all its `people` are counted into one gate and one minute
    (`YYYY-MM-DDTHH:MM`, UTC). `delay_s`: how much later an order is to start. `repeat`: sent long after it was answered.
    `replayed`: the answer says that it was done before. `failures`: attempts that the job is to fail. `events`: order, status,
    and Redis' time of the change.
    """

    at: float
    kind: Kind
    op: str
    id: str
    process: str = ""
    repeat: bool = False
    n: int = 0
    people: int = 0
    gate: str = ""
    minute: str = ""
    refusable: bool = False
    delay_s: float = 0.0
    expected: Any = None
    failures: int = 0
    status: int = 0
    answer: str = ""
    replayed: bool = False
    accepted: int = 0
    duplicates: int = 0
    error: str = ""
    role: str = ""
    began_at: float = 0.0
    healed_at: float = 0.0
    asked_at: float = 0.0
    numbers: dict[str, int] = {}
    events: tuple[tuple[str, str, float], ...] = ()


class History:
    """Appends records to a file of its own; what was there before is not overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("xb", buffering=0)
        self._encode = msgspec.json.Encoder().encode

    def append(self, kind: Kind, op: str, id: str, process: str = "", **more: Any) -> Record:
        """Writes one record, with the fields of Record; it is with the kernel when this returns."""
        record = Record(time.time(), kind, op, id, process, **more)
        self._file.write(self._encode(record) + b"\n")
        return record

    def close(self) -> None:
        """No more is written."""
        self._file.close()


class Recorded:
    """The records of a file, read anew whenever it is iterated over; a last line that was cut off is left out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Record]:
        decode = msgspec.json.Decoder(Record).decode
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield decode(line)


def read(path: Path) -> Recorded:
    """What was recorded there."""
    return Recorded(path)
