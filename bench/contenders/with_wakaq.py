"""WakaQ; it has no bulk call.

Workers: its concurrency is processes; two workers with one each in the drain. A job is an asyncio task of its child, whose loop
stands still while the child waits for the next job: with `async_concurrency` 100 it comes to few sleepers at once, and its own
way, a hundred processes, is not what is compared. It pops and runs, without an acknowledgement; it has no other way.
"""

import logging
import os
from urllib.parse import urlsplit

from contenders import work
from contenders.plain import add as plain_add
from wakaq import WakaQ

app = WakaQ(
    queues=["bench"],
    host="127.0.0.1",
    port=urlsplit(os.environ["REDIS_URL"]).port or 6379,
    concurrency=1,
    async_concurrency=work.SLOTS if work.SLOTS > 1 else 0,
    worker_log_level=logging.CRITICAL,
)
add = app.task(plain_add)
TASKS = {
    function.__name__.removeprefix("async_"): app.task(function)
    for function in (work.async_noop if work.SLOTS > 1 else work.noop, work.async_nap, work.stamp)
}
COMMAND = ("{bin}/wakaq-worker", "--app", "contenders.with_wakaq.app")
PENDING = "return redis.call('LLEN', 'wakaq:bench')"
WORKERS = {"": work.Workers(COMMAND, PENDING, late=False)}


def send(job: str, *args: float) -> None:
    """One job for the workers."""
    TASKS[job].delay(*args)


def enqueue() -> None:
    """One job."""
    add.delay(3, 4)


def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    for _ in range(jobs):
        add.delay(3, 4)
