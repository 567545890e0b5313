"""Taskiq on a Redis list, without a result backend; its bulk way is many calls at once."""

import asyncio
import os

from contenders.plain import add as plain_add
from taskiq_redis import ListQueueBroker

AT_ONCE = 50
broker = ListQueueBroker(os.environ["REDIS_URL"], max_connection_pool_size=AT_ONCE)
add = broker.task(plain_add)


async def enqueue() -> None:
    """One job."""
    await add.kiq(3, 4)


async def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    await asyncio.gather(*(_share(jobs // AT_ONCE) for _ in range(AT_ONCE)))


async def _share(jobs: int) -> None:
    for _ in range(jobs):
        await enqueue()
