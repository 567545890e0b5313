"""Stock RQ: `queue.enqueue` and `queue.enqueue_many`. The job's name is one that a worker can import: memory.py runs them."""

import os

import redis
from rq import Queue

QUEUE = Queue("stock", connection=redis.Redis.from_url(os.environ["REDIS_URL"]))
ADD = "contenders.plain.add"


def enqueue() -> None:
    """One job."""
    QUEUE.enqueue(ADD, 3, 4)


def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    QUEUE.enqueue_many([Queue.prepare_data(ADD, (3, 4)) for _ in range(jobs)])
