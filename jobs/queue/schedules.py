"""What waits for its time: periodic jobs with their runs, and delayed jobs; and a run out of turn.

The scheduler process keeps all of it up to date; this module only reads it, so that the web need not know
the scheduler.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator

import msgspec
import redis

from jobs import keys
from jobs.errors import Conflict, InvalidField, NotFound
from jobs.queue.overview import queue_names
from jobs.queue.script import beside

FIRE = beside(__file__, "fire")
PREFIX = "cron-"
PAGE = 500


class Schedule(msgspec.Struct, frozen=True):
    """One periodic job. Instants are Unix seconds; `skipped` counts fires that would have overlapped the run before.

    `overdue_s` grows while no scheduler runs.
    """

    name: str
    cron: str
    timezone: str
    task: str
    queue: str
    last_fire_at: float | None
    last_job_id: str | None
    next_fire_at: float | None
    overdue_s: float
    runs: int
    skipped: int


class Delayed(msgspec.Struct, frozen=True):
    """One job that waits until `due_at` (Unix seconds): delayed by its sender, or by the backoff after a failure."""

    id: str
    due_at: float
    queue: str
    task: str
    description: str


class DelayedPage(msgspec.Struct, frozen=True):
    """Part of the delayed jobs, the next due first; `next_cursor` asks for the next part."""

    scheduled: list[Delayed]
    next_cursor: str | None = None


class Meta(msgspec.Struct, frozen=True):
    """What the definition of a periodic job keeps in RQ's `meta` field; the first as rq-scheduler writes it."""

    cron_string: str
    timezone: str = "UTC"


def definition_id(name: str) -> str:
    """The id under which a periodic job of the table stands in rq-scheduler's set."""
    return PREFIX + name


def schedules(client: redis.Redis, now: float) -> list[Schedule]:
    """The periodic jobs that are registered, by name, in two round trips."""
    names = sorted(name.decode() for name in client.smembers(keys.PERIODIC))
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hmget(keys.job(definition_id(name)), "meta", "task", "origin")
            pipeline.hmget(keys.periodic(name), "last_fire_at", "last_job_id", "runs", "skipped")
            pipeline.zscore(keys.SCHEDULED_JOBS, definition_id(name))
        answers = pipeline.execute()
    rows = zip(names, answers[0::3], answers[1::3], answers[2::3], strict=True)
    return [_schedule(name, definition, record, score, now) for name, definition, record, score in rows]


def run_now(client: redis.Redis, name: str, now: float) -> str:
    """Runs a periodic job out of turn; returns the job's id. Raises NotFound, and Conflict while a run has not ended."""
    job_id = f"{definition_id(name)}-{int(now * 1000)}-now"
    outcome = FIRE(
        client,
        [keys.job(definition_id(name)), keys.job(job_id), keys.periodic(name), keys.SCHEDULED_JOBS],
        [definition_id(name), job_id, "", repr(now), "", "", ""],
    ).decode()
    if outcome == "unknown":
        raise NotFound("periodic job", name)
    if outcome == "skipped":
        raise Conflict(f"the last run of {name} has not ended yet")
    return job_id


def delayed(client: redis.Redis, limit: int, cursor: str | None = None) -> DelayedPage:
    """Jobs that wait for their time, without the periodic ones of the table. Raises InvalidField for a cursor that is none."""
    after = _parse_cursor(cursor)
    definitions = {definition_id(name.decode()) for name in client.smembers(keys.PERIODIC)}
    sets = [keys.SCHEDULED_JOBS, *(keys.scheduled(name) for name in queue_names(client))]
    waiting = heapq.merge(*(_waiting(client, key, after) for key in sets))
    page = list(itertools.islice((entry for entry in waiting if entry[1] not in definitions), limit + 1))
    shown = page[:limit]
    with client.pipeline(transaction=False) as pipeline:
        for _due_at, job_id in shown:
            pipeline.hmget(keys.job(job_id), "origin", "task", "description")
        hashes = pipeline.execute()
    found = [_delayed(job_id, due_at, fields) for (due_at, job_id), fields in zip(shown, hashes, strict=True) if any(fields)]
    return DelayedPage(found, f"{shown[-1][0]!r}:{shown[-1][1]}" if len(page) > limit else None)


def _waiting(client: redis.Redis, key: str, after: tuple[float, str]) -> Iterator[tuple[float, str]]:
    for offset in itertools.count(0, PAGE):
        batch = client.zrange(key, repr(after[0]), "+inf", byscore=True, offset=offset, num=PAGE, withscores=True)
        for job_id, due_at in batch:
            if (due_at, job_id.decode()) > after:
                yield due_at, job_id.decode()
        if len(batch) < PAGE:
            return


def _parse_cursor(cursor: str | None) -> tuple[float, str]:
    if cursor is None:
        return float("-inf"), ""
    due_at, _, job_id = cursor.partition(":")
    try:
        instant = float(due_at)
    except ValueError:
        instant = math.nan
    if math.isnan(instant):
        raise InvalidField("cursor", "not a cursor of this list")
    return instant, job_id


def _schedule(
    name: str, definition: list[bytes | None], record: list[bytes | None], next_fire_at: float | None, now: float
) -> Schedule:
    meta, task, queue = definition
    last_fire_at, last_job_id, runs, skipped = record
    try:
        declared = msgspec.json.decode(meta or b"", type=Meta)
    except msgspec.MsgspecError:
        declared = Meta("")  # deleted or overwritten by another tool; the scheduler restores it
    return Schedule(
        name=name,
        cron=declared.cron_string,
        timezone=declared.timezone,
        task=(task or b"").decode(),
        queue=(queue or b"").decode(),
        last_fire_at=float(last_fire_at) if last_fire_at else None,
        last_job_id=last_job_id.decode() if last_job_id else None,
        next_fire_at=next_fire_at,
        overdue_s=max(0.0, now - next_fire_at) if next_fire_at else 0.0,
        runs=int(runs or 0),
        skipped=int(skipped or 0),
    )


def _delayed(job_id: str, due_at: float, fields: list[bytes | None]) -> Delayed:
    queue, task, description = ((value or b"").decode(errors="replace") for value in fields)
    return Delayed(job_id, due_at, queue, task, description)
