"""Redrives (and discards) of many dead letters: written down here, worked off by the scheduler, resumed after any kill.

A record lists the letters that are there when it is asked for; what dies later, or dies again, is not touched by it.
"""

import time
import uuid
from itertools import islice
from typing import Any, Literal

import msgspec
import redis

from jobs import crash_points, keys
from jobs.errors import Conflict, InvalidField, NotFound
from jobs.queue import audit
from jobs.queue.cursor import walk
from jobs.queue.script import beside

OPEN = beside(__file__, "redrive_open")
END = beside(__file__, "redrive_end")
KEPT_S = 7 * 86_400
MAX_OPEN = 20
"""Each open record holds the ids of its letters."""
SLOWEST, FASTEST = 1 / 86_400, 1e6

Action = Literal["redrive", "discard"]


class Redrive(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record. Of `total` letters, `done` were redriven (or discarded) and `refused` could not be; those that somebody
    else took in the meantime are in neither. `state` is open, done or cancelled. Instants are Unix seconds; at a rate,
    the next letter is due at `next_at`."""

    id: str
    action: Action
    state: str
    total: int
    done: int
    refused: int
    by: str
    requested_at: float
    next_at: float
    ended_at: float | None = None
    group: str | None = None
    rate_per_s: float | None = None
    kwargs: dict[str, Any] | None = None


def request(
    client: redis.Redis,
    action: Action,
    *,
    by: str,
    group: str | None = None,
    rate_per_s: float | None = None,
    kwargs: dict[str, Any] | None = None,
) -> Redrive:
    """Asks for all dead letters of a group, or all of them; `kwargs` replace the keyword arguments of each call.

    Raises InvalidField for a rate that cannot be kept, Conflict while too many are open.
    """
    if rate_per_s is not None and not SLOWEST <= rate_per_s <= FASTEST:
        raise InvalidField("rate_per_s", f"a number between {SLOWEST:.3g} and {FASTEST:g} is needed")
    record_id, now = uuid.uuid4().hex, time.time()
    source = keys.DEAD if group is None else keys.dead_group(group)
    rate = "" if rate_per_s is None else repr(rate_per_s)
    edited = "" if kwargs is None else msgspec.json.encode(kwargs).decode()
    args: list[str | int] = [record_id, repr(now), action, group or "", rate, edited, by, MAX_OPEN]
    crash_points.reach("redrives.asked")
    total = OPEN(client, [keys.redrive(record_id), keys.redrive_letters(record_id), source, keys.REDRIVES], args)
    crash_points.reach("redrives.opened")
    if total < 0:
        raise Conflict(f"{MAX_OPEN} redrives are open: wait for one to end, or cancel it")
    audit.say(f"{action} group", who=by, target=group or "all")
    return get(client, record_id)


def get(client: redis.Redis, record_id: str) -> Redrive:
    """One record. Raises NotFound."""
    found = _read(client, [record_id])
    if not found:
        raise NotFound("redrive", record_id)
    return found[0]


def page(client: redis.Redis, *, cursor: str | None, limit: int) -> tuple[list[Redrive], str | None]:
    """Records, the open ones first, then the last to end. Raises InvalidField for a cursor that is none."""
    marked = list(islice(walk(client, keys.REDRIVES, cursor), limit))
    return _read(client, [record_id for record_id, _mark in marked]), marked[-1][1] if len(marked) == limit else None


def still_open(client: redis.Redis) -> list[Redrive]:
    """The open records."""
    return _read(client, [record_id.decode() for record_id in client.zrangebyscore(keys.REDRIVES, "inf", "inf")])


def cancel(client: redis.Redis, record_id: str, *, by: str) -> Redrive:
    """Leaves what is not done yet; a batch in hand is finished. Raises NotFound, or Conflict when it has ended."""
    found = get(client, record_id)
    if not end(client, record_id, "cancelled", time.time(), by=by):
        raise Conflict(f"the redrive is {found.state} and cannot be cancelled", found.state)
    audit.say("cancel redrive", who=by, target=record_id)
    return get(client, record_id)


def end(client: redis.Redis, record_id: str, state: str, now: float, *, by: str = "") -> bool:
    """Ends an open record; `done` only when no letter is left to it."""
    places = [keys.redrive(record_id), keys.redrive_letters(record_id), keys.REDRIVES]
    return bool(END(client, places, [record_id, repr(now), state, by, KEPT_S]))


def _read(client: redis.Redis, ids: list[str]) -> list[Redrive]:
    with client.pipeline(transaction=False) as pipeline:
        for record_id in ids:
            pipeline.hgetall(keys.redrive(record_id))
        answers = pipeline.execute()
    found = []
    for record_id, fields in zip(ids, answers, strict=True):
        text = {name.decode(): value.decode() for name, value in fields.items() if value}
        if text:
            kwargs = msgspec.json.decode(text["kwargs"]) if "kwargs" in text else None
            found.append(msgspec.convert({**text, "id": record_id, "kwargs": kwargs}, Redrive, strict=False))
    return found
