"""Huey on Redis; it has no bulk call.

Workers: its consumer has processes or threads; two processes in the drain, threads where many jobs must wait at once. Periodic
tasks are off. Results are not kept. It pops and runs, without an acknowledgement, as it does by default.
"""

import os

from contenders import work
from contenders.plain import add as plain_add
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["REDIS_URL"], results=False)
add = huey.task()(plain_add)
TASKS = {function.__name__: huey.task()(function) for function in (work.noop, work.nap, work.stamp)}
COMMAND = ("{bin}/huey_consumer", "contenders.with_huey.huey", "--quiet", "--no-periodic", "--worker-type")
PENDING = "return redis.call('LLEN', 'huey.redis.bench')"
WORKERS = {
    "processes": work.Workers((*COMMAND, "process", "--workers", "{processes}"), PENDING, late=False, scenes=(work.DRAIN,)),
    "threads": work.Workers(
        (*COMMAND, "thread", "--workers", "{slots}"), PENDING, late=False, scenes=(work.SLEEPERS, work.LATENCY)
    ),
}


def send(job: str, *args: float) -> None:
    """One job for the workers."""
    TASKS[job](*args)


def enqueue() -> None:
    """One job."""
    add(3, 4)


def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    for _ in range(jobs):
        add(3, 4)
