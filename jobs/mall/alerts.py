"""Alerts: too many people in the mall or behind a gate, and entries while it is closed. count.lua writes each once."""

from collections.abc import Iterator, Sequence

import msgspec
import redis

from jobs import keys
from jobs.errors import InvalidField
from jobs.mall.footfall import Summary
from jobs.queue.audit import STREAM_ID


class Alert(msgspec.Struct, frozen=True):
    """`kind` is `over` (more than `capacity`), `below` (at most 95 % of it) or `closed` (the first entry in an hour in which
    the mall was closed; `people` came with it). `gate` is empty for the whole mall, `at` when it was counted (Unix seconds)."""

    id: str
    kind: str
    gate: str
    at: float
    people: int
    capacity: int


class Crowd(msgspec.Struct, frozen=True):
    """More people than the capacity; `gate` is empty for the whole mall."""

    gate: str
    people: int
    capacity: int


def page(client: redis.Redis, *, cursor: str | None, limit: int) -> tuple[list[Alert], str | None]:
    """Alerts, the newest first, and the cursor of the next page. Raises InvalidField for a cursor that is none."""
    if cursor is not None and not STREAM_ID.fullmatch(cursor):
        raise InvalidField("cursor", "not a cursor of this list")
    alerts = []
    for entry_id, fields in client.xrevrange(keys.ALERTS, max=f"({cursor}" if cursor else "+", count=limit):
        said = {name.decode(): value.decode() for name, value in fields.items()}
        people, capacity = int(said["people"]), int(said["capacity"])
        alerts.append(Alert(entry_id.decode(), said["kind"], said["gate"], float(said["at"]), people, capacity))
    return alerts, alerts[-1].id if len(alerts) == limit else None


def crowds(people: Summary, capacity: Sequence[tuple[str, int]]) -> Iterator[Crowd]:
    """Where there are more people than the capacity right now. Pure."""
    for gate, limit in capacity:
        sums = people.by_gate.get(gate)
        inside = people.occupancy if not gate else sums.in_ - sums.out if sums else 0
        if inside > limit:
            yield Crowd(gate, inside, limit)
