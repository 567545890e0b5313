"""Calling: a job is created and put on its queue in one round trip, by whoever wants it done."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio

from jobs import connections, crash_points, keys
from jobs.errors import InvalidField
from jobs.queue.canvas_parts import Signature, signature
from jobs.queue.handle import JobHandle
from jobs.queue.job import JobSpec, rq_time
from jobs.queue.options import Options
from jobs.queue.script import beside

if TYPE_CHECKING:
    from jobs.queue.task import Task

ENQUEUE = beside(__file__, "enqueue")
BULK = 500
"""Jobs that one script call creates at most: some milliseconds of Redis' time."""


class Calling:
    """A task with the options of a call. Every method that enqueues takes one round trip and answers with a handle.

    A unique job that exists already is not created again: the handle is then that of the job that has the lock.
    """

    def __init__(self, task: "Task", defaults: Options, overrides: Mapping[str, Any] | None = None) -> None:
        self._task = task
        self.defaults = defaults
        self._overrides = overrides or {}

    def options(self, **overrides: Any) -> "Calling":
        """The task with other options (see `Options`) for the calls that follow. Raises InvalidField."""
        try:
            return Calling(self._task, replace(self.defaults, **overrides), {**self._overrides, **overrides})
        except TypeError as error:
            raise InvalidField("options", str(error)) from None

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """A call that is not made yet, to be put into a canvas; the result before it becomes its first argument."""
        return signature(self._task, args, kwargs).set(**self._overrides)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """`s`, but the result before it is not given to it."""
        return signature(self._task, args, kwargs, immutable=True).set(**self._overrides)

    def delay(self, *args: Any, **kwargs: Any) -> JobHandle:
        """Enqueues a call."""
        return self._enqueue(args, kwargs, None)

    def enqueue_in(self, seconds: float, /, *args: Any, **kwargs: Any) -> JobHandle:
        """Enqueues a call that starts in `seconds`, or later."""
        return self._enqueue(args, kwargs, time.time() + seconds)

    def enqueue_at(self, when: datetime | float, /, *args: Any, **kwargs: Any) -> JobHandle:
        """Enqueues a call that starts at an instant: Unix seconds, or a datetime with an offset."""
        return self._enqueue(args, kwargs, _instant(when))

    def enqueue_many(self, calls: Iterable[Sequence[Any]]) -> list[JobHandle]:
        """Enqueues a call for each tuple of positional arguments; one round trip for every 500."""
        now = time.time()
        specs = [self._task.build(self.defaults, args, {}, now=now) for args in calls]
        return [JobHandle(job_id) for job_id, _created in place_many(connections.process_client(), specs, now=now)]

    async def enqueue_many_async(self, calls: Iterable[Sequence[Any]]) -> list[JobHandle]:
        """`enqueue_many` on the running event loop."""
        now = time.time()
        specs = [self._task.build(self.defaults, args, {}, now=now) for args in calls]
        return [JobHandle(job_id) for job_id, _created in await place_many_async(connections.loop_client(), specs, now=now)]

    async def delay_async(self, *args: Any, **kwargs: Any) -> JobHandle:
        """`delay` on the running event loop."""
        return await self._enqueue_async(args, kwargs, None)

    async def enqueue_in_async(self, seconds: float, /, *args: Any, **kwargs: Any) -> JobHandle:
        """`enqueue_in` on the running event loop."""
        return await self._enqueue_async(args, kwargs, time.time() + seconds)

    async def enqueue_at_async(self, when: datetime | float, /, *args: Any, **kwargs: Any) -> JobHandle:
        """`enqueue_at` on the running event loop."""
        return await self._enqueue_async(args, kwargs, _instant(when))

    def _enqueue(self, args: Sequence[Any], kwargs: Mapping[str, Any], due_at: float | None) -> JobHandle:
        now = time.time()
        job = self._task.build(self.defaults, args, kwargs, now=now, due_at=due_at)
        return JobHandle(place(connections.process_client(), job, now=now, due_at=due_at)[0])

    async def _enqueue_async(self, args: Sequence[Any], kwargs: Mapping[str, Any], due_at: float | None) -> JobHandle:
        now = time.time()
        job = self._task.build(self.defaults, args, kwargs, now=now, due_at=due_at)
        return JobHandle((await place_async(connections.loop_client(), job, now=now, due_at=due_at))[0])


def place(client: redis.Redis, job: JobSpec, *, now: float, due_at: float | None = None) -> tuple[str, bool]:
    """Creates the job in one round trip, on its queue or, with `due_at`, held in Redis until then.

    Returns the id of the job and whether it is new: not when a job of that id exists (a call whose reply was lost can be
    repeated), nor when another job has the lock of a unique one, whose id is then returned.
    """
    return _answered(job, ENQUEUE(client, *_script_call([job], now, due_at))[0])


async def place_async(client: redis.asyncio.Redis, job: JobSpec, *, now: float, due_at: float | None = None) -> tuple[str, bool]:
    """The async twin of `place`."""
    return _answered(job, (await ENQUEUE.run(client, *_script_call([job], now, due_at)))[0])


def place_many(client: redis.Redis, jobs: Sequence[JobSpec], *, now: float) -> list[tuple[str, bool]]:
    """`place` for many jobs: one round trip for every 500 of them."""
    placed: list[tuple[str, bool]] = []
    for start in range(0, len(jobs), BULK):
        part = jobs[start : start + BULK]
        answers = ENQUEUE(client, *_script_call(part, now, None))
        placed += map(_answered, part, answers)
    return placed


async def place_many_async(client: redis.asyncio.Redis, jobs: Sequence[JobSpec], *, now: float) -> list[tuple[str, bool]]:
    """The async twin of `place_many`."""
    placed: list[tuple[str, bool]] = []
    for start in range(0, len(jobs), BULK):
        part = jobs[start : start + BULK]
        placed += map(_answered, part, await ENQUEUE.run(client, *_script_call(part, now, None)))
    return placed


def enqueue(client: redis.Redis, job: JobSpec, *, now: float, due_at: float | None = None) -> bool:
    """`place`, when it matters only whether the job is new."""
    return place(client, job, now=now, due_at=due_at)[1]


def _script_call(jobs: Sequence[JobSpec], now: float, due_at: float | None) -> tuple[list[str], list[str]]:
    args = [repr(now)]
    state = ("status", "queued", "enqueued_at", rq_time(now)) if due_at is None else ("status", "scheduled")
    for job in jobs:
        flat = job.flat + state
        args += (job.id, job.queue, "" if due_at is None else repr(due_at), job.lasts, str(len(flat)), *flat)
    crash_points.reach("enqueue.asked")
    return [keys.SCHEDULED_JOBS, *(job.lock for job in jobs if job.lock)], args


def _answered(job: JobSpec, answer: int | bytes) -> tuple[str, bool]:
    crash_points.reach("enqueue.written")
    return (answer.decode(), False) if isinstance(answer, bytes) else (job.id, answer == 1)


def _instant(when: datetime | float) -> float:
    if not isinstance(when, datetime):
        return when
    if when.tzinfo is None:
        raise InvalidField("when", "a datetime needs an offset, as datetime.now(UTC) has")
    return when.timestamp()
