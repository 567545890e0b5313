"""rq-scheduler's API for whoever enqueues (rq-scheduler 0.14.0 scheduler.py), on its keys, without its traps.

A job and its due time are written in one MULTI, due times keep their fractions of a second, and `retry`, `failure_ttl` and
`on_stopped` are options of the job instead of arguments of its function. A periodic job without an id gets one that follows
from what it is, so registering it at every boot adds nothing.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import redis
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq_scheduler import Scheduler

from jobs.errors import Conflict, NotFound
from jobs.queue import job_store
from jobs.queue.job import JsonJob
from scheduler.duty import logger
from scheduler.foreign import Timing

Function = Callable[..., Any] | str
Until = datetime | timedelta | float | None

RENAMED = {"job_id": "id", "job_ttl": "ttl", "job_result_ttl": "result_ttl", "job_description": "description"}
OPTIONS = ("timeout", "depends_on", "meta", "queue_name", "at_front", "retry", "failure_ttl")
CALLBACKS = ("on_success", "on_failure", "on_stopped")
KEPT = -1
"""rq-scheduler's `result_ttl` of a periodic job: a stock worker that runs the definition itself does not let it expire."""


class SchedulerClient(Scheduler):
    """The client's half: enqueues, lists and cancels."""

    job_class = JsonJob

    def enqueue_at(self, scheduled_time: datetime, func: Function, *args: Any, **kwargs: Any) -> Job:
        """Enqueues a function at a time; naive ones are UTC. OPTIONS, CALLBACKS and RENAMED are the job's."""
        options = {RENAMED.get(name, name): kwargs.pop(name) for name in (*OPTIONS, *CALLBACKS, *RENAMED) if name in kwargs}
        return self._put(_instant(scheduled_time), func, args, kwargs, **options)

    def enqueue_in(self, time_delta: timedelta, func: Function, *args: Any, **kwargs: Any) -> Job:
        """Enqueues the function after a time."""
        return self.enqueue_at(datetime.now(UTC) + time_delta, func, *args, **kwargs)

    def schedule(
        self,
        scheduled_time: datetime,
        func: Function,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        interval: float | None = None,
        repeat: int | None = None,
        **options: Any,
    ) -> Job:
        """Enqueues the function at a time, and again every `interval` seconds, `repeat` times in all or for ever."""
        due_at = _instant(scheduled_time)
        if not interval:
            if repeat:
                raise ValueError("Can't repeat a job without interval argument")
            return self._put(due_at, func, args, kwargs, **options)
        timing = Timing(interval=int(interval) if interval == int(interval) else interval, repeat=repeat)
        timing.next_fire(due_at, due_at)  # refuses what makes no sense before it is registered
        return self._put(due_at, func, args, kwargs, timing, **options)

    def cron(
        self,
        cron_string: str,
        func: Function,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        repeat: int | None = None,
        *,
        use_local_timezone: bool = False,
        **options: Any,
    ) -> Job:
        """Enqueues the function at the times of a cron string, in UTC or in the machine's zone. ValueError for what is none."""
        timing = Timing(cron_string=cron_string, use_local_timezone=use_local_timezone, repeat=repeat)
        now = time.time()
        return self._put(timing.next_fire(now, now), func, args, kwargs, timing, **options)

    def cancel(self, job: Job | str) -> None:
        """Takes it out of the set, and it will not run. Jobs that belong to an order or to the table stay, which is logged."""
        job_id = job if isinstance(job, str) else job.id
        if job_id not in self:
            return
        try:
            job_store.cancel(self.connection, job_id, time.time())
        except NotFound:
            super().cancel(job_id)
        except Conflict as error:
            if error.status in {status.value for status in JobStatus}:  # a stock scheduler ran the definition itself
                super().cancel(job_id)
            else:
                logger.warning("not cancelled", job_id=job_id, reason=str(error))

    def change_execution_time(self, job: Job, date_time: datetime) -> None:
        """Lets a job that waits wait until another time. ValueError when it does not wait any more."""
        due_at = {job.id: _instant(date_time)}
        if not self.connection.zadd(self.scheduled_jobs_key, due_at, xx=True, ch=True) and job.id not in self:
            raise ValueError("Job not in scheduled jobs queue")

    def count(self, until: Until = None) -> int:
        """How many jobs wait, or are due until then: a time, a time from now, or Unix seconds."""
        return int(self.connection.zcount(self.scheduled_jobs_key, 0, _until(until)))

    def get_jobs(
        self, until: Until = None, with_times: bool = False, offset: int | None = None, length: int | None = None
    ) -> Iterator[Any]:
        """The jobs due until then, or all, if asked with their times (naive, UTC); without those that cannot be read."""
        until_at = _until(until)
        found = self.connection.zrangebyscore(self.scheduled_jobs_key, 0, until_at, start=offset, num=length, withscores=True)
        for job_id, due_at in found:
            try:
                job = self.job_class.fetch(job_id.decode(), connection=self.connection)
            except (NoSuchJobError, ValueError, redis.exceptions.ResponseError) as error:
                logger.warning("cannot be read", job_id=job_id.decode(errors="replace"), error=str(error))
                continue
            yield (job, datetime.fromtimestamp(due_at, UTC).replace(tzinfo=None)) if with_times else job

    def get_jobs_to_queue(self, with_times: bool = False) -> Iterator[Any]:
        """The jobs that are due."""
        return self.get_jobs(time.time(), with_times)

    def _put(
        self,
        due_at: float,
        func: Function,
        args: Any,
        kwargs: Mapping[str, Any] | None,
        timing: Timing | None = None,
        *,
        id: str | None = None,
        queue_name: str | None = None,
        meta: Mapping[str, Any] | None = None,
        at_front: bool | None = None,
        result_ttl: int | None = None,
        **options: Any,
    ) -> Job:
        times: dict[str, Any] = {} if timing is None else msgspec.to_builtins(timing)
        job = self.job_class.create(
            func,
            args=args,
            kwargs=kwargs,
            id=id,
            origin=queue_name or self.queue_name,
            meta={**(meta or {}), **times},
            result_ttl=KEPT if result_ttl is None and times else result_ttl,
            connection=self.connection,
            status=JobStatus.SCHEDULED,
            **options,
        )
        if self.queue_class_name:
            job.meta["queue_class_name"] = self.queue_class_name
        if at_front:
            job.enqueue_at_front = True
        named = timing is None or id is not None
        if not named:
            what = b"\n".join([job.origin.encode(), job.data, msgspec.json.encode(timing)])
            job.id = f"periodic-{hashlib.sha256(what).hexdigest()[:32]}"
        with self.connection.pipeline(transaction=True) as pipeline:
            # The meta of one that is registered already says how often it has still to run.
            job.save(pipeline=pipeline, include_meta=named or job.id not in self)
            pipeline.persist(job.key)
            pipeline.zadd(self.scheduled_jobs_key, {job.id: due_at}, nx=not named)
            pipeline.execute()
        return job


def _instant(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _until(until: Until) -> float | str:
    if until is None:
        return "+inf"
    if isinstance(until, datetime):
        return _instant(until)
    return time.time() + until.total_seconds() if isinstance(until, timedelta) else until
