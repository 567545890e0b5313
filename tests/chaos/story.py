"""Histories made by hand, for the tests of the judge: a run in which all is well, which a test spoils."""

import itertools
from typing import Any

from checker import Violation, check
from history import Kind, Op, Record, Snap
from observed import Final, Fire, JobEnd, OrderEnd

from jobs.queue.canvas_store import CanvasView

PATH = ("accepted", "picking", "packing", "delivering", "delivered")
MINUTE = "2026-01-01T10:00"
CELL = f"gate-1 {MINUTE}"


class Story:
    """A run in which all is well, told record by record; a test spoils it."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.final = Final()
        self._clock = itertools.count(1)

    def tell(self, kind: Kind, op: str, id: str, **more: Any) -> None:
        """The next record."""
        self.records.append(Record(float(next(self._clock)), kind, op, id, **more))

    def asked(self, op: Op, id: str, answer: dict[str, Any] | None = None, **sent: Any) -> None:
        """A request and its answer."""
        self.tell(Kind.INVOKE, op, id, **sent)
        self.tell(Kind.OK, op, id, status=202, **(answer or {}))

    def asked_again(self, op: Op, id: str, answer: dict[str, Any]) -> None:
        """The same request much later."""
        self.tell(Kind.INVOKE, op, id, repeat=True)
        self.tell(Kind.OK, op, id, status=202, repeat=True, **answer)

    def saw(self, op: Snap, **numbers: int) -> None:
        """A snapshot that was asked for after everything else."""
        self.tell(Kind.SNAPSHOT, op, "", asked_at=1e9, numbers=numbers)

    def struck(self, role: str, name: str = "kill") -> None:
        """A fault that lasts no time."""
        now = self.records[-1].at
        self.tell(Kind.FAULT, name, f"{role}-1", role=role, began_at=now, healed_at=now)

    def order(self, number: int = 1, path: tuple[str, ...] = PATH, **sent: Any) -> str:
        """An order that was delivered, or went another way."""
        order_id, status = f"order-{number}", path[-1]
        self.asked(Op.ORDER, f"key-{number}", {"answer": order_id}, **sent)
        asked_at = self.records[-2].at
        events = tuple((order_id, step, asked_at + n) for n, step in enumerate(path))
        self.tell(Kind.SNAPSHOT, Snap.EVENTS, "", events=events)
        tracking = f"TS{number}" if status == "delivered" else ""
        self.final.orders[order_id] = OrderEnd(f"key-{number}", status, (status,), {"sku": 2}, tracking)
        if tracking:
            self.final.effects.append((order_id, tracking))
        return order_id

    def entries(self, number: int = 1, n: int = 10, **answer: Any) -> None:
        """A body of which all events were new and are counted."""
        told = {"accepted": n, "duplicates": 0} | answer
        self.asked(Op.ENTRIES, f"body-{number}", told, n=n, people=3 * n, gate="gate-1", minute=MINUTE)
        self.final.counted[CELL] = self.final.counted.get(CELL, 0) + 3 * n
        self.final.accepted_events += n
        self.final.counted_events += n

    def job(self, **more: Any) -> None:
        """A job that has finished."""
        self.asked(Op.JOB, "job-key", {"answer": "job"}, expected=4, **more)
        self.final.jobs["job"] = JobEnd("finished", ("w",), 4, ("Planned",) * more.get("failures", 0))

    def replace(self, order_id: str, **fields: Any) -> None:
        """The order is another one in the end."""
        old = self.final.orders[order_id]
        self.final.orders[order_id] = OrderEnd(**{name: fields.get(name, getattr(old, name)) for name in old.__struct_fields__})

    def judged(self) -> list[Violation]:
        """What the judge finds."""
        return check(self.records, self.final)


def some_of_everything() -> Story:
    """A run in which all is well."""
    made = Story()
    made.asked(Op.STOCK, "sku", n=100)
    made.order(1)
    made.order(2, ("scheduled", *PATH), delay_s=1.0)
    made.order(3, ("accepted", "cancelled"))
    made.asked(Op.CANCEL, "order-3")
    made.order(4, ("accepted", "picking", "rejected"))
    made.replace("order-4", quantities={"sku": 99})
    made.order(5, ("accepted", "picking", "packing", "delivering", "dead"))
    made.replace("order-5", dead_job="letter", reserved='{"sku":2}')
    made.final.dead.add("letter")
    made.struck("courier")
    made.struck("redis")
    made.tell(Kind.INVOKE, Op.ORDER, "key-6", refusable=True)
    made.tell(Kind.FAIL, Op.ORDER, "key-6", status=422)
    made.entries()
    made.job(failures=1)
    made.asked(Op.CANVAS, "canvas", {"answer": "canvas"}, expected=[1])
    made.final.canvases["canvas"] = CanvasView("canvas", "finished", 1, 1, 0, 0.0, result=[1])
    made.final.stock["sku"] = {"on_hand": 96, "reserved": 2}
    made.final.fires += [Fire("roll-up", 60.0, 60.1, 60.2), Fire("roll-up", 120.0, 120.1, 120.2)]
    made.saw(Snap.SUMMARY, accepted=10, counted=4, pending=6)
    made.saw(Snap.ORDERS, known=5, open=0, delivered=4, dead=1)
    made.tell(Kind.SNAPSHOT, Snap.STOCK, "sku", asked_at=1e9, numbers={"on_hand": 96, "reserved": 4})
    return made
