"""What `rq worker` reads for soak.py (RQ_CONFIG=contenders.ours_mixed): jobs of every fate, and the product's configuration."""

import asyncio

from jobs.queue.backoff import Backoff
from jobs.queue.running import running_job
from jobs.queue.task import task
from jobs.rq_config import REDIS_URL

__all__ = ["REDIS_URL"]
RESULT_TTL_S = 10


class Planned(Exception):
    """Raised by the jobs that are to fail."""


@task(name="soak.plain", ignore_result=True)
def plain(number: int) -> int:
    """Leaves nothing behind."""
    return number


@task(name="soak.on_loop", ignore_result=True)
async def on_loop(number: int) -> int:
    """The same on a loop."""
    await asyncio.sleep(0)
    return number


@task(name="soak.kept", result_ttl_s=RESULT_TTL_S)
def kept(number: int) -> list[int]:
    """Leaves a result for some seconds."""
    return [number] * 20


@task(name="soak.second_time", retry=Backoff(max_attempts=3, base_s=0.1, cap_s=1.0), ignore_result=True)
def second_time(number: int) -> int:
    """Fails the first time."""
    if running_job().attempt == 1:
        raise Planned(number)
    return number


@task(name="soak.never", retry=Backoff(max_attempts=1))
def never(number: int) -> None:
    """Becomes a dead letter."""
    raise Planned(number)
