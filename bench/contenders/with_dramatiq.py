"""Dramatiq on Redis; its bulk call is a group.

Workers: `--processes` is its own way to several processes, eight threads each its default; a hundred jobs prefetched instead of
sixteen double its rate. Its actors run on threads, `async def` ones too (they block the thread that waits for them), so the
sleepers get a hundred threads. It acknowledges after the job.
"""

import os

import dramatiq
from contenders import work
from contenders.plain import add as plain_add
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))
add = dramatiq.actor(plain_add)
TASKS = {function.__name__: dramatiq.actor(function) for function in (work.noop, work.nap, work.stamp)}
COMMAND = ("{bin}/dramatiq", "contenders.with_dramatiq", "--processes", "{processes}", "--threads", "{slots}", "--skip-logging")
PENDING = "return redis.call('HLEN', 'dramatiq:default.msgs')"
WORKERS = {"": work.Workers(COMMAND, PENDING, late=True, slots=8, environ=(("dramatiq_queue_prefetch", "100"),))}


def send(job: str, *args: float) -> None:
    """One job for the workers."""
    TASKS[job].send(*args)


def enqueue() -> None:
    """One job."""
    add.send(3, 4)


def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    dramatiq.group([add.message(3, 4) for _ in range(jobs)]).run()
