"""Delayed jobs by hand: made, listed, promoted; for the tests of what operators do to them."""

import redis

from jobs import keys
from jobs.queue import calling, delayed, task
from scheduler.promote import Promotion

NOW = 1_800_000_000.0
HOUR = 3_600.0


@task.task(name="test.later", queue="calm", expires_s=60.0)
def later(number: int) -> int:
    return number


def hold(client: redis.Redis, job_id: str, due_at: float, number: int = 1) -> None:
    spec = later.build(later.defaults, (number,), {}, job_id=job_id, now=NOW, due_at=due_at)
    calling.enqueue(client, spec, now=NOW, due_at=due_at)


def define(client: redis.Redis, due_at: float) -> None:
    """A periodic job `hourly`, as the scheduler registers it."""
    client.sadd(keys.PERIODIC, "hourly")
    client.hset(keys.job("cron-hourly"), mapping={"status": "scheduled", "origin": "calm", "task": later.name})
    client.zadd(keys.SCHEDULED_JOBS, {"cron-hourly": due_at})


def ready(client: redis.Redis, queue: str = "calm") -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue(queue), 0, -1)]


def walk(client: redis.Redis, limit: int = 100, **filters: str) -> list[str]:
    """All pages together."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = delayed.page(client, limit=limit, cursor=cursor, **filters)
        assert len(page.scheduled) <= limit
        found += [job.id for job in page.scheduled]
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


def promote(client: redis.Redis, now: float) -> None:
    """The scheduler's own move of what is due; nothing here is periodic."""
    Promotion(client, lambda _definition, _now: {}, lambda _job_id, _due_at, _now: {}).tick(now)
