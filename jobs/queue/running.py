"""The job that runs in this context: what its code may ask of it and tell about it."""

from contextvars import ContextVar
from dataclasses import dataclass

from rq import get_current_job

from jobs import keys


@dataclass(frozen=True, slots=True)
class RunningJob:
    """`attempt` counts from 1; a crash of a worker is not an attempt."""

    id: str
    queue: str
    attempt: int
    worker: str


_running: ContextVar[RunningJob | None] = ContextVar("running_job", default=None)


def running_job() -> RunningJob:
    """The job that is being run, by our worker or by a stock one. Raises LookupError outside a job."""
    job = _running.get()
    if job is not None:
        return job
    stock = get_current_job()
    if stock is None:
        raise LookupError("no job runs here")
    failures = stock.connection.hget(keys.job(stock.id), "failures")
    return RunningJob(stock.id, stock.origin, int(failures or 0) + 1, stock.worker_name or "stock")


def set_running_job(job: RunningJob | None) -> None:
    """Said by a worker before and after it runs a job."""
    _running.set(job)
