"""arq; its bulk way is many calls at once."""

import asyncio
import os

from arq.connections import ArqRedis, RedisSettings, create_pool

AT_ONCE = 50
_pools: list[ArqRedis] = []


async def enqueue() -> None:
    """One job."""
    if not _pools:
        _pools.append(await create_pool(RedisSettings.from_dsn(os.environ["REDIS_URL"])))
    await _pools[0].enqueue_job("add", 3, 4)


async def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    await asyncio.gather(*(_share(jobs // AT_ONCE) for _ in range(AT_ONCE)))


async def _share(jobs: int) -> None:
    for _ in range(jobs):
        await enqueue()
