"""Calling: a job is created and put on its queue in one round trip, by whoever wants it done."""

import redis
import redis.asyncio

from jobs import keys
from jobs.queue.job import JobSpec
from jobs.queue.script import beside

ENQUEUE = beside(__file__, "enqueue")


def enqueue(client: redis.Redis, job: JobSpec, *, now: float, due_at: float | None = None) -> bool:
    """Creates the job in one round trip, on its queue or, with `due_at`, held in Redis until then.

    False when a job of that id exists already: a call whose reply was lost can be repeated.
    """
    return bool(ENQUEUE(client, *_enqueue_call(job, now, due_at)))


async def enqueue_async(client: redis.asyncio.Redis, job: JobSpec, *, now: float, due_at: float | None = None) -> bool:
    """The async twin of `enqueue`."""
    return bool(await ENQUEUE.run(client, *_enqueue_call(job, now, due_at)))


def _enqueue_call(job: JobSpec, now: float, due_at: float | None) -> tuple[list[str], list[str]]:
    return [keys.SCHEDULED_JOBS], [job.id, job.queue, job.fields, repr(now), "" if due_at is None else repr(due_at)]
