"""What a worker's engine (engine.py) is given at its start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from jobs.queue.drain import Drain
from jobs.queue.executor import Executor
from jobs.queue.registration import Registration
from jobs.setting_values import Range


@dataclass(frozen=True, slots=True)
class Bounds:
    """When the engine ends by itself, as `rq worker` is told; None: never."""

    burst: bool = False
    max_jobs: int | None = None
    max_idle_s: float | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an engine is given. `order` gives the queues as a claim serves them; `greet` comes before the first one."""

    client: redis.Redis
    name: str
    queues: Sequence[str]
    executor: Executor
    registration: Registration
    range: Range
    drain: Drain
    lease_s: float
    order: Callable[[Sequence[str]], Sequence[str]]
    greet: Callable[[redis.Redis], None]
