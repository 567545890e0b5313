"""The stock scheduler and ours behind one handle, and what stops a process just before its n-th command to Redis."""

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from redis.connection import AbstractConnection
from rq_scheduler import Scheduler

from jobs import connections, keys
from jobs.queue.job import JsonJob
from scheduler.scheduler import TurnstileScheduler

PAST = datetime(2026, 1, 1)
QUEUE = "ticks"
HOUR_S = 3600


class Engine:
    """The stock scheduler or ours, on one database."""

    def __init__(self, name: str, url: str) -> None:
        self.stock = name == "stock"
        self._url = url
        self.redis = connections.connect(url)

    def scheduler(self, **options: Any) -> Scheduler:
        """One more scheduler, with connections of its own. The stock one is told to write JSON, lest pickles hide the rest."""
        client = connections.connect(self._url)
        if self.stock:
            return Scheduler(QUEUE, connection=client, interval=1, **{"job_class": JsonJob, **options})
        return TurnstileScheduler(QUEUE, connection=client, **options)

    def pass_once(self) -> None:
        """A fresh scheduler promotes what is due."""
        self.scheduler().run(burst=True)

    def ready(self) -> list[str]:
        """The ids in the queue."""
        return [job_id.decode() for job_id in self.redis.lrange(keys.queue(QUEUE), 0, -1)]

    def due_at(self, job_id: str) -> float | None:
        """When a job of rq-scheduler's set is due."""
        due_at: float | None = self.redis.zscore(keys.SCHEDULED_JOBS, job_id)
        return due_at

    def make_due(self, job_id: str) -> None:
        """As if its time had come."""
        self.redis.zadd(keys.SCHEDULED_JOBS, {job_id: PAST.replace(tzinfo=UTC).timestamp() + HOUR_S}, xx=True)

    def unlock(self) -> None:
        """As if the lock of a process that stands still, or is dead, had run out."""
        self.redis.delete(keys.SCHEDULER_LOCK)


@contextmanager
def before_each_command(action: Callable[[int], None]) -> Iterator[None]:
    """Calls the action with 1, 2, 3, ... before this process sends a command to Redis; what the action sends does not count."""
    plain, numbers, acting = AbstractConnection.send_packed_command, itertools.count(1), False

    def send(self: AbstractConnection, *args: Any, **kwargs: Any) -> None:
        nonlocal acting
        if not acting:
            acting = True
            try:
                action(next(numbers))
            finally:
                acting = False
        plain(self, *args, **kwargs)

    AbstractConnection.send_packed_command = send
    try:
        yield
    finally:
        AbstractConnection.send_packed_command = plain


def stopped(work: Callable[[], object], is_the_moment: Callable[[int], bool]) -> bool:
    """Does the work in a child that gets a SIGTERM before a command; whether it got one."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _stopped(work, is_the_moment)
        finally:
            if code == 1:
                traceback.print_exc()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, 3):
        raise AssertionError(f"the child ended with {code}")
    return code == 0


def _stopped(work: Callable[[], object], is_the_moment: Callable[[int], bool]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as `python -m scheduler` takes it; the stock one sets its own
    told = False

    def stop(number: int) -> None:
        nonlocal told
        if not told and is_the_moment(number):
            told = True
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        with before_each_command(stop):
            work()
    except SystemExit:
        return 0
    return 3
