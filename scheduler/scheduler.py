"""rq-scheduler's Scheduler on the same keys, with a mover that loses and doubles nothing, and JSON instead of pickle.

For clients its API is rq-scheduler's (`enqueue_in`, `enqueue_at`, `cancel`, `get_jobs`, `count`), but periodic jobs are
declared in the table. As a process it leads or waits, and does the duties of this folder.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from rq_scheduler import Scheduler

from jobs.queue.job import JsonJob
from jobs.queue.periodic import Periodic
from scheduler.duty import Duty, logger
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


class TurnstileScheduler(Scheduler):
    """Any number may run. `table` holds the periodic jobs, `reconcile` is the business's own recovery."""

    job_class = JsonJob

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
        super().__init__(queue_name, connection=connection, name=f"{socket.gethostname()}.{os.getpid()}", **options)
        self._server = Server(connection, lease_s)
        self._promotion = Promotion(connection, table)
        self._duties: list[Duty] = [
            Registration(connection, table),
            self._promotion,
            Redrives(connection),
            Sweep(connection),
            Registries(connection),
            Trim(connection, dead_letters_max, dead_letters_max_age_s),
            Reconciliation(reconcile),
            Reclamation(connection, self._server.renewed),  # the last: it waits for an instant, not for a while
        ]

    def enqueue_jobs(self) -> None:
        """Promotes what is due, once."""
        self._promotion.tick(time.time())

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
