"""The job that runs in this context: what its code may ask of it and tell about it."""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import redis
from rq import get_current_job

from jobs import connections, keys
from jobs.queue import progress
from jobs.queue.progress import Throttle


@dataclass(frozen=True, slots=True)
class RunningJob:
    """`attempt` counts from 1; a crash of a worker is not an attempt. `execution` is empty under a stock worker.

    A thread that the task starts itself is given this object; `asyncio.to_thread` takes it along.
    """

    id: str
    queue: str
    attempt: int
    worker: str
    execution: str = ""
    client: redis.Redis | None = field(default=None, compare=False, repr=False)
    throttle: Throttle = field(default_factory=Throttle, compare=False, repr=False)

    def progress(self, current: float, total: float | None = None, message: str = "") -> None:
        """Reports how far the job is; call it as often as you like. Raises InvalidField, and nothing because of Redis."""
        made = progress.report(current, total, message, time.time())
        if not self.throttle.passes(made.done, time.monotonic()):
            return
        client = self.client or connections.process_client()
        if not progress.write(client, self.id, self.queue, self.execution, made):
            self.throttle.pause(time.monotonic())


_running: ContextVar[RunningJob | None] = ContextVar("running_job", default=None)
_under_stock: list[tuple[Any, RunningJob]] = []
"""RQ's object of the job that a stock worker runs, and ours, which must be the same one at every call."""


def running_job() -> RunningJob:
    """The job that is being run, by our worker or by a stock one. Raises LookupError outside a job."""
    job = _running.get()
    if job is not None:
        return job
    stock = get_current_job()
    if stock is None:
        raise LookupError("no job runs here")
    if not _under_stock or _under_stock[0][0] is not stock:
        failures = int(stock.connection.hget(keys.job(stock.id), "failures") or 0)
        made = RunningJob(stock.id, stock.origin, failures + 1, stock.worker_name or "stock", client=stock.connection)
        _under_stock[:] = [(stock, made)]
    return _under_stock[0][1]


def set_running_job(job: RunningJob | None) -> None:
    """Said by a worker before it runs a job, in a context that is the job's own."""
    _running.set(job)
