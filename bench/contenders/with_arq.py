"""arq; its bulk way is many calls at once.

Workers: it polls, twice a second and ten jobs at once by default; here every 5 ms and a hundred at once, without which it would
stand still most of the time. Results are not kept. It acknowledges after the job.
"""

import asyncio
import os
from typing import Any

from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.worker import func
from contenders import work

AT_ONCE = 50
_pools: list[ArqRedis] = []
PENDING = "return redis.call('ZCARD', 'arq:queue')"
WORKERS = {
    "": work.Workers(("{bin}/arq", "contenders.with_arq.WorkerSettings"), PENDING, late=True, slots=100, share=0.25),
}


async def noop(_context: Any) -> None:
    """arq gives a context first."""
    await work.async_noop()


async def nap(_context: Any, seconds: float) -> None:
    """See `noop`."""
    await work.async_nap(seconds)


async def stamp(_context: Any, number: int) -> None:
    """See `noop`."""
    await work.async_stamp(number)


class WorkerSettings:
    """What its command reads."""

    redis_settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
    functions = (func(noop, keep_result=0), func(nap, keep_result=0), func(stamp, keep_result=0))
    max_jobs = work.SLOTS
    poll_delay = 0.005
    log_results = False


async def send(job: str, *args: float) -> None:
    """One job for the workers."""
    if not _pools:
        _pools.append(await create_pool(RedisSettings.from_dsn(os.environ["REDIS_URL"])))
    await _pools[0].enqueue_job(job, *args)


async def enqueue() -> None:
    """One job."""
    await send("add", 3, 4)


async def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    await asyncio.gather(*(_share(jobs // AT_ONCE) for _ in range(AT_ONCE)))


async def _share(jobs: int) -> None:
    for _ in range(jobs):
        await enqueue()
