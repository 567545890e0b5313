"""Turnstile: `task.delay` and `task.enqueue_many`."""

from jobs.queue.samples import add


def enqueue() -> None:
    """One job."""
    add.delay(3, 4)


def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    add.enqueue_many([(3, 4)] * jobs)
