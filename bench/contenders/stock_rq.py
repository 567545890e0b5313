"""Stock RQ: `queue.enqueue` and `queue.enqueue_many`. The job's name is one that a worker can import: memory.py runs them.

Workers: as they come, results kept for 500 s. A SimpleWorker runs jobs in its own process, one at a time; a Worker forks for
each. They acknowledge after the job.
"""

import os
from typing import Any

import redis
from contenders import work
from rq import Queue

QUEUE = Queue("stock", connection=redis.Redis.from_url(os.environ["REDIS_URL"]))
ADD = "contenders.plain.add"
COMMAND = ("{bin}/rq", "worker", "--url", "{url}", "--quiet", "-w")
PENDING = "return redis.call('LLEN', 'rq:queue:stock') + redis.call('ZCARD', 'rq:wip:stock')"
SIMPLE, FORKING = (*COMMAND, "rq.SimpleWorker", "stock"), (*COMMAND, "rq.Worker", "stock")
WORKERS = {
    "SimpleWorker": work.Workers(SIMPLE, PENDING, late=True, share=0.1),
    "SimpleWorker, 1 process": work.Workers(SIMPLE, PENDING, late=True, scenes=(work.DRAIN,), processes=1, share=0.05),
    "Worker": work.Workers(FORKING, PENDING, late=True, share=0.02),
}


def send(job: str, *args: Any) -> None:
    """One job for the workers."""
    QUEUE.enqueue(f"contenders.work.{job}", *args)


def send_many(job: str, calls: list[list[Any]]) -> None:
    """Many jobs for the workers."""
    QUEUE.enqueue_many([Queue.prepare_data(f"contenders.work.{job}", call) for call in calls])


def enqueue() -> None:
    """One job."""
    QUEUE.enqueue(ADD, 3, 4)


def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    QUEUE.enqueue_many([Queue.prepare_data(ADD, (3, 4)) for _ in range(jobs)])
