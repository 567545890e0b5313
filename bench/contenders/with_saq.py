"""SAQ; its bulk way is as many calls at once as it allows.

Workers: `--workers` is its own way to several processes; ten jobs at once is its default and does best. Results are not kept
(`ttl=-1`). It acknowledges after the job.
"""

import asyncio
import os
from typing import Any

from contenders import work
from saq import Queue

QUEUE = Queue.from_url(os.environ["REDIS_URL"], name="bench")
PENDING = "return redis.call('ZCARD', 'saq:bench:incomplete') + redis.call('LLEN', 'saq:bench:active')"
COMMAND = ("{bin}/saq", "contenders.with_saq.settings", "--workers", "{processes}")
WORKERS = {"": work.Workers(COMMAND, PENDING, late=True, slots=10)}


async def noop(_context: Any) -> None:
    """SAQ gives a context first and arguments by name."""
    await work.async_noop()


async def nap(_context: Any, *, value: float) -> None:
    """See `noop`."""
    await work.async_nap(value)


async def stamp(_context: Any, *, value: int) -> None:
    """See `noop`."""
    await work.async_stamp(value)


settings = {"queue": QUEUE, "functions": [noop, nap, stamp], "concurrency": work.SLOTS}


async def send(job: str, *args: float) -> None:
    """One job for the workers."""
    await QUEUE.enqueue(job, ttl=-1, **dict(zip(("value",) * len(args), args, strict=True)))


async def enqueue() -> None:
    """One job."""
    await QUEUE.enqueue("add", x=3, y=4)


async def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    await asyncio.gather(*(enqueue() for _ in range(jobs)))
