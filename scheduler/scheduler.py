"""rq-scheduler's Scheduler on the same keys, with a mover that loses and doubles nothing, and JSON instead of pickle.

For clients its API is rq-scheduler's: client.py. As a process it leads or waits, and does the duties of this folder.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import redis
from rq.job import Job

from jobs.queue.periodic import Periodic
from scheduler.client import SchedulerClient
from scheduler.duty import Duty, logger
from scheduler.fires import Fires, Runs
from scheduler.foreign import Foreign
from scheduler.loop import Loop
from scheduler.periodic import Registration
from scheduler.promote import Promotion
from scheduler.reclaim import Reclamation
from scheduler.reconcile import Reconciliation
from scheduler.redrives import Redrives
from scheduler.registries import Registries
from scheduler.server import Server
from scheduler.sweep import Sweep
from scheduler.trim import Trim


class TurnstileScheduler(SchedulerClient):
    """Any number may run. `table` holds the periodic jobs, `reconcile` is the business's own recovery."""

    def __init__(
        self,
        queue_name: str = "default",
        *,
        connection: redis.Redis,
        table: Sequence[Periodic] = (),
        reconcile: Callable[[float], list[str]] = lambda now: [],
        lease_s: float = 4.0,
        dead_letters_max: int = 100_000,
        dead_letters_max_age_s: float = 0.0,
        **options: Any,
    ) -> None:
        options.setdefault("name", f"{socket.gethostname()}.{os.getpid()}")
        super().__init__(queue_name, connection=connection, **options)
        self._server = Server(connection, lease_s)
        self._promotion = Promotion(connection, Fires(connection, table).due, Foreign(connection).due)
        self._duties: list[Duty] = [
            Registration(connection, table),
            self._promotion,
            Runs(connection, table),
            Redrives(connection),
            Sweep(connection),
            Registries(connection),
            Trim(connection, dead_letters_max, dead_letters_max_age_s),
            Reconciliation(reconcile),
            Reclamation(connection, self._server.renewed),  # the last: it waits for an instant, not for a while
        ]

    def enqueue_jobs(self) -> None:
        """Promotes what is due now, once."""
        now = time.time()
        self._promotion.tick(now)
        while self._promotion.interval_s == 0:
            self._promotion.tick(now)

    def enqueue_job(self, job: Job) -> None:
        """Promotes a job that waits, and what is due."""
        self.change_execution_time(job, datetime.now(UTC))
        self.enqueue_jobs()

    def run(self, burst: bool = False) -> None:
        """Runs until an exception, as which a signal comes, ends it; with `burst` promotes what is due and returns."""
        if burst:
            self.enqueue_jobs()
            return
        logger.info("scheduler started", name=self.name)
        loop = Loop(self.connection, self._server, self.name, self._duties)
        try:
            loop.run()
        finally:
            loop.leave()
            logger.info("scheduler stopped", name=self.name)
