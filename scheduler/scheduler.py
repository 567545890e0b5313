"""rq-scheduler's Scheduler on the same keys, with a mover that loses and doubles nothing, and JSON instead of pickle.

For clients its API is rq-scheduler's (`enqueue_in`, `enqueue_at`, `cron`, `schedule`, `cancel`, `get_jobs`, `count`).
As a process it leads or waits, and does the duties of this folder.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from rq.job import Job
from rq_scheduler import Scheduler

from jobs import log
from jobs.connections import is_away
from jobs.queue.job import JsonJob
from jobs.queue.periodic import Periodic
from scheduler.duty import Duty
from scheduler.fire import Fires
from scheduler.heartbeat import Heartbeat
from scheduler.leader import Leader
from scheduler.loop import Loop
from scheduler.periodic import Registration
from scheduler.promote import Promotion
from scheduler.reclaim import Reclamation
from scheduler.reconcile import Reconciliation
from scheduler.registries import Registries
from scheduler.stop import Overdue, Stop
from scheduler.sweep import Sweep

logger = log.get("scheduler")

RESIGN_LIMIT_S = 0.2
OPTIONS = {
    "timeout": "timeout",
    "job_id": "id",
    "job_ttl": "ttl",
    "job_result_ttl": "result_ttl",
    "job_description": "description",
    "depends_on": "depends_on",
    "meta": "meta",
    "queue_name": "queue_name",
    "on_success": "on_success",
    "on_failure": "on_failure",
}
"""Keywords of enqueue_in and enqueue_at that are not the function's -> rq_scheduler 0.14.0 `_create_job`."""


class TurnstileScheduler(Scheduler):
    """Any number may run. `table` holds the periodic jobs, `reconcile` is the business's own recovery."""

    job_class = JsonJob

    def __init__(
        self,
        queue_name: str = "default",
        *,
        connection: redis.Redis,
        table: Sequence[Periodic] = (),
        reconcile: Callable[[float], list[str]] | None = None,
        name: str | None = None,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        name = name or f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:6]}"
        super().__init__(queue_name, connection=connection, name=name, **options)
        self._clock = clock
        self._leader = Leader(connection)
        self._promotion = Promotion(connection, Fires(connection, table))
        self._beat = Heartbeat(connection, self._leader, self.heartbeat, name, os.getpid())
        self._duties: list[Duty] = [
            Registration(connection, table),
            self._promotion,
            Reclamation(connection),
            Sweep(connection),
            Registries(connection),
        ]
        if reconcile is not None:
            self._duties.append(Reconciliation(reconcile))

    def enqueue_at(self, scheduled_time: datetime, func: Any, *args: Any, **kwargs: Any) -> Job:
        """As rq-scheduler's, but to the microsecond and in one step. A time without a zone is UTC."""
        aware = scheduled_time if scheduled_time.tzinfo else scheduled_time.replace(tzinfo=UTC)
        return self._hold(aware.timestamp(), func, args, kwargs)

    def enqueue_in(self, time_delta: timedelta, func: Any, *args: Any, **kwargs: Any) -> Job:
        """As rq-scheduler's, but to the microsecond and in one step."""
        return self._hold(self._clock() + time_delta.total_seconds(), func, args, kwargs)

    def _hold(self, due_at: float, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        options = {option: kwargs.pop(keyword, None) for keyword, option in OPTIONS.items()}
        at_front = kwargs.pop("at_front", None)
        job: Job = self._create_job(func, args=args, kwargs=kwargs, commit=False, **options)
        if at_front:
            job.enqueue_at_front = True
        with self.connection.pipeline(transaction=True) as pipeline:
            job.save(pipeline=pipeline)
            pipeline.zadd(self.scheduled_jobs_key, {job.id: due_at})
            pipeline.execute()
        return job

    def enqueue_jobs(self) -> None:
        """Promotes what is due, once."""
        self._promotion.tick(self._clock())

    def heartbeat(self) -> None:
        """Keeps the hash by which rq-scheduler's processes know each other; writes it again should Redis have lost it."""
        with self.connection.pipeline(transaction=True) as pipeline:
            pipeline.hsetnx(self.key, "birth", self._clock())
            pipeline.hdel(self.key, "death")
            pipeline.expire(self.key, int(self._interval) + 10)
            pipeline.execute()

    def run(self, burst: bool = False, stop: Stop | None = None) -> None:
        """Runs until SIGTERM or SIGINT; with `burst` promotes what is due and returns."""
        if burst:
            self.enqueue_jobs()
            return
        if stop is None:
            stop = Stop()
            stop.install()
        logger.info("scheduler started", name=self.name)
        with suppress(Overdue):
            Loop(self._leader, self._beat, self._duties, self._beat.counts, clock=self._clock).run(stop)
        stop.grant(RESIGN_LIMIT_S)
        with suppress(Overdue):
            self._leave()
        stop.grant(0)
        logger.info("scheduler stopped", name=self.name)

    def _leave(self) -> None:
        """Gives the lease back. One that cannot be, because Redis is away or does not answer, runs out by itself."""
        led = self._leader.leads()
        try:
            self._leader.resign()
            self.register_death()
            if led:
                self._beat.publish(self._clock())
        except Exception as error:
            if not is_away(error):
                logger.exception("lease not given back")
