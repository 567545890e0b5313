"""Huey on Redis; it has no bulk call."""

import os

from contenders.plain import add as plain_add
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["REDIS_URL"])
add = huey.task()(plain_add)


def enqueue() -> None:
    """One job."""
    add(3, 4)


def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    for _ in range(jobs):
        add(3, 4)
