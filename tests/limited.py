"""Limited tasks for the tests, and the moves that they are driven with: added, taken, held back."""

import redis
from hands import LEASE_S

from jobs import keys
from jobs.queue import claiming
from jobs.queue.calling import enqueue
from jobs.queue.task import Task, task

NOW = 1_763_764_205.0


@task(name="limits.free")
def free() -> None:
    """A job without limits."""


@task(name="limits.rated", rate_limit="10/s")
def rated() -> None:
    """Ten a second."""


@task(name="limits.rated_too", rate_limit="10/s")
def rated_too() -> None:
    """Ten a second of its own."""


@task(name="limits.few", max_concurrent=2)
def few() -> None:
    """Two at once."""


@task(name="limits.owned", rate_limit="1/h", owned=True)
def owned() -> None:
    """Belongs to a state."""


TASKS = (free, rated, rated_too, few, owned)


def add(client: redis.Redis, which: Task, *ids: str, queue: str = "default") -> None:
    for job_id in ids:
        enqueue(client, which.spec(job_id=job_id, now=NOW, queue=queue), now=NOW)


def take(client: redis.Redis, n: int = 1, *, now: float = NOW, queues: tuple[str, ...] = ("default",)) -> claiming.Claims:
    executions = [f"e{number}-{now}" for number in range(n)]
    return claiming.claim(client, queues, "hands", LEASE_S, now=now, executions=executions)


def ids(found: claiming.Claims) -> list[str]:
    return [claim.id for claim in found.jobs]


def held(client: redis.Redis, name: str, queue: str = "default") -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.held_jobs(queue, name), 0, -1)]


def numbered(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(n)]


def hold_two(client: redis.Redis) -> None:
    """One job of `owned` runs, and two are held for an hour."""
    add(client, owned, "first", "h1", "h2")
    assert ids(take(client, 9)) == ["first"]
    assert held(client, "limits.owned") == ["h1", "h2"]
