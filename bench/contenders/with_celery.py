"""Celery on Redis, without a result backend; its bulk call is a group.

Workers: prefork with one child a process, as it is meant to be used, and threads in two processes. `acks_late`, so that it is
among those that lose nothing; each slot prefetches a hundred, as its guide advises for short tasks; gossip, mingle and heartbeat,
which only cost, are off.
"""

import os

from celery import Celery, group
from contenders import work
from contenders.plain import add as plain_add

app = Celery("bench", broker=os.environ["REDIS_URL"])
app.conf.update(task_acks_late=True, task_ignore_result=True, broker_connection_retry_on_startup=True)
add = app.task(plain_add, ignore_result=True)
TASKS = {function.__name__: app.task(function, ignore_result=True) for function in (work.noop, work.nap, work.stamp)}
COMMAND = ("{bin}/celery", "--app", "contenders.with_celery", "--quiet", "worker", "--loglevel", "CRITICAL")
COMMAND += (
    "--without-gossip",
    "--without-mingle",
    "--without-heartbeat",
    "--prefetch-multiplier",
    "100",
    "--hostname",
    "w{index}@%h",
)
PENDING = "return redis.call('LLEN', 'celery') + redis.call('HLEN', 'unacked')"
WORKERS = {
    "prefork": work.Workers(
        (*COMMAND, "--pool", "prefork", "--concurrency", "{processes}"),
        PENDING,
        late=True,
        scenes=(work.DRAIN, work.LATENCY),
        share=0.25,
    ),
    "threads": work.Workers((*COMMAND, "--pool", "threads", "--concurrency", "{slots}"), PENDING, late=True, slots=4, share=0.25),
}


def send(job: str, *args: float) -> None:
    """One job for the workers."""
    TASKS[job].delay(*args)


def enqueue() -> None:
    """One job."""
    add.delay(3, 4)


def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    group(add.s(3, 4) for _ in range(jobs)).apply_async()
