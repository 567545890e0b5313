"""No queue at all: what one round trip through redis-py costs on this machine, the floor of every single enqueue."""

import os

import redis

CLIENT = redis.Redis.from_url(os.environ["REDIS_URL"])


def enqueue() -> None:
    """One round trip."""
    CLIENT.ping()


def enqueue_many(jobs: int) -> None:
    """That many round trips."""
    for _ in range(jobs):
        enqueue()
