"""Celery on Redis, without a result backend; its bulk call is a group."""

import os

from celery import Celery, group
from contenders.plain import add as plain_add

app = Celery("bench", broker=os.environ["REDIS_URL"])
add = app.task(plain_add, ignore_result=True)


def enqueue() -> None:
    """One job."""
    add.delay(3, 4)


def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    group(add.s(3, 4) for _ in range(jobs)).apply_async()
