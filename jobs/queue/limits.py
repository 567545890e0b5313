"""Limits of tasks over all workers: how many of a task's jobs start in a time, and how many run at once.

Every worker publishes at its start what its tasks declare; claim.lua enforces it, and holds back in a list of their own the jobs
that may not start yet. An operator's override stands apart and outlives restarts. Only jobs enqueued by a task that declares a
limit are asked about. A stock `rq.Worker` knows no limits: it starts what it finds, and does not see what is held back.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from jobs import keys
from jobs.queue.overview import queue_names

if TYPE_CHECKING:
    from jobs.queue.task import Task

RATE = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)/([smh])")
SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Rate:
    """So many starts in a second, minute or hour (`s`, `m`, `h`), evenly spread."""

    count: float
    unit: str

    @property
    def per_s(self) -> float:
        """Starts a second."""
        return self.count / SECONDS[self.unit]

    def __str__(self) -> str:
        return f"{self.count:.3f}".rstrip("0").rstrip(".") + f"/{self.unit}"


def parse_rate(text: str) -> Rate:
    """Reads `50/s`, `10/m`, `0.5/h`. Raises ValueError."""
    found = RATE.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise ValueError(f"rate {text!r}: a number above 0, a slash and s, m or h are needed, as in 50/s, 10/m or 5/h")
    return Rate(float(found[1]), found[2])


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one task; None stands for no limit."""

    rate: Rate | None = None
    max_concurrent: int | None = None

    def encode(self) -> str:
        """As Redis holds them and claim.lua reads them: `50/s:3`, either part may be empty."""
        return f"{self.rate or ''}:{self.max_concurrent or ''}"

    @classmethod
    def decode(cls, text: str) -> "Limits":
        """The reverse of `encode`. Raises ValueError."""
        rate, _, max_concurrent = text.partition(":")
        return cls(parse_rate(rate) if rate else None, int(max_concurrent) if max_concurrent else None)


def publish(client: redis.Redis, tasks: Iterable["Task"]) -> None:
    """Makes Redis hold what these tasks declare; other tasks, of workers with other code, stay as they are."""
    wanted = {task.name: Limits(task.rate_limit, task.max_concurrent) for task in tasks}
    before = client.hgetall(keys.LIMITS)
    for name, limits in wanted.items():
        text = limits.encode() if limits != Limits() else None
        if before.get(name.encode()) != (None if text is None else text.encode()):
            _write(client, keys.LIMITS, name, text)


def override(client: redis.Redis, name: str, limits: Limits | None) -> None:
    """An operator's limits for a task, instead of those that it declares; None brings these back."""
    _write(client, keys.LIMITS_OVERRIDE, name, None if limits is None else limits.encode())


def _write(client: redis.Redis, key: str, name: str, text: str | None) -> None:
    """What waits for the old limits is looked at anew."""
    queues = queue_names(client)
    with client.pipeline(transaction=True) as pipeline:
        if text is None:
            pipeline.hdel(key, name)
        else:
            pipeline.hset(key, name, text)
        pipeline.delete(keys.rate(name))
        for queue in queues:
            pipeline.zadd(keys.held(queue), {name: 0}, xx=True)
        pipeline.execute()


def declared(client: redis.Redis) -> dict[str, Limits]:
    """What the tasks of the workers declare; a task without a limit is not there."""
    return _read(client, keys.LIMITS)


def overridden(client: redis.Redis) -> dict[str, Limits]:
    """The operators' overrides."""
    return _read(client, keys.LIMITS_OVERRIDE)


def _read(client: redis.Redis, key: str) -> dict[str, Limits]:
    return {name.decode(): Limits.decode(text.decode()) for name, text in client.hgetall(key).items()}
