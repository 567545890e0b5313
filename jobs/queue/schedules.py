"""What waits for its time: periodic jobs with their runs, and delayed jobs; and the runs of periodic jobs.

The scheduler process keeps all of it up to date; it stands here so that the web need not know the scheduler.
"""

import heapq
import itertools
from collections.abc import Iterator

import msgspec
import redis

from jobs import keys
from jobs.errors import Conflict, NotFound
from jobs.queue.cursor import Cursor
from jobs.queue.overview import queue_names
from jobs.queue.periodic import definition_id
from jobs.queue.script import beside

FIRE = beside(__file__, "fire")
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


def schedules(client: redis.Redis, now: float) -> list[Schedule]:
    """The periodic jobs that are registered, by name, in two round trips."""
    names = sorted(name.decode() for name in client.smembers(keys.PERIODIC))
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hmget(keys.job(definition_id(name)), "task", "origin")
            pipeline.hgetall(keys.periodic(name))
            pipeline.zscore(keys.SCHEDULED_JOBS, definition_id(name))
        answers = pipeline.execute()
    found = []
    for name, job, record, next_fire_at in zip(names, answers[0::3], answers[1::3], answers[2::3], strict=True):
        text = {field.decode(): value.decode() for field, value in record.items()}
        found.append(
            Schedule(
                name=name,
                cron=text.get("cron", ""),
                timezone=text.get("timezone", ""),
                task=(job[0] or b"").decode(),
                queue=(job[1] or b"").decode(),
                last_fire_at=float(text["last_fire_at"]) if "last_fire_at" in text else None,
                last_job_id=text.get("last_job_id"),
                next_fire_at=next_fire_at,
                overdue_s=max(0.0, now - next_fire_at) if next_fire_at else 0.0,
                runs=int(text.get("runs", 0)),
                skipped=int(text.get("skipped", 0)),
            )
        )
    return found


def fire(client: redis.Redis, name: str, fire_at: float, next_at: float, now: float) -> str:
    """Runs a periodic job at its fire time, each once, and moves it on to the next; returns what fire.lua RETURNS."""
    return _fire(client, name, f"{definition_id(name)}-{int(fire_at)}", now, repr(fire_at), repr(next_at))


def run_now(client: redis.Redis, name: str, now: float) -> str:
    """Runs a periodic job out of turn; returns the job's id. Raises NotFound, and Conflict while a run has not ended."""
    job_id = f"{definition_id(name)}-{int(now * 1000)}-now"
    outcome = _fire(client, name, job_id, now)
    if outcome == "unknown":
        raise NotFound("periodic job", name)
    if outcome == "skipped":
        raise Conflict(f"the last run of {name} has not ended yet")
    return job_id


def _fire(client: redis.Redis, name: str, job_id: str, now: float, fire_at: str = "", next_at: str = "") -> str:
    definition = definition_id(name)
    outcome: bytes = FIRE(
        client,
        [keys.job(definition), keys.job(job_id), keys.periodic(name), keys.SCHEDULED_JOBS],
        [definition, job_id, repr(now), fire_at, next_at],
    )
    return outcome.decode()


def delayed(client: redis.Redis, limit: int, cursor: str | None = None) -> DelayedPage:
    """Jobs that wait for their time, without the periodic ones of the table. Raises InvalidField for a cursor that is none."""
    start = Cursor.parse(cursor or "-inf:")
    after = float(start.score), start.member
    definitions = {definition_id(name.decode()) for name in client.smembers(keys.PERIODIC)}
    sets = [keys.SCHEDULED_JOBS, *(keys.scheduled(name) for name in queue_names(client))]
    waiting = heapq.merge(*(_waiting(client, key, after) for key in sets))
    page = list(itertools.islice((entry for entry in waiting if entry[1] not in definitions), limit + 1))
    shown = page[:limit]
    with client.pipeline(transaction=False) as pipeline:
        for _due_at, job_id in shown:
            pipeline.hmget(keys.job(job_id), "origin", "task", "description")
        hashes = pipeline.execute()
    found = [
        Delayed(job_id, due_at, *((value or b"").decode(errors="replace") for value in fields))
        for (due_at, job_id), fields in zip(shown, hashes, strict=True)
        if any(fields)
    ]
    return DelayedPage(found, f"{shown[-1][0]!r}:{shown[-1][1]}" if len(page) > limit else None)


def _waiting(client: redis.Redis, key: str, after: tuple[float, str]) -> Iterator[tuple[float, str]]:
    """What is due after that, from the last one on: what is promoted in the meantime shifts nothing."""
    passed = 0
    while True:
        batch = client.zrange(key, repr(after[0]), "+inf", byscore=True, offset=passed, num=PAGE, withscores=True)
        later = [place for job_id, due_at in batch if (place := (due_at, job_id.decode(errors="replace"))) > after]
        yield from later
        if len(batch) < PAGE:
            return
        after, passed = (later[-1], 0) if later else (after, passed + PAGE)
