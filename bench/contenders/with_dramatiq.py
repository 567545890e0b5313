"""Dramatiq on Redis; its bulk call is a group."""

import os

import dramatiq
from contenders.plain import add as plain_add
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))
add = dramatiq.actor(plain_add)


def enqueue() -> None:
    """One job."""
    add.send(3, 4)


def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    dramatiq.group([add.message(3, 4) for _ in range(jobs)]).run()
