"""SAQ; its bulk way is as many calls at once as it allows."""

import asyncio
import os

from saq import Queue

QUEUE = Queue.from_url(os.environ["REDIS_URL"], name="bench")


async def enqueue() -> None:
    """One job."""
    await QUEUE.enqueue("add", x=3, y=4)


async def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    await asyncio.gather(*(enqueue() for _ in range(jobs)))
