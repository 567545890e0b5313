"""How the state that a job belongs to follows the job's fate: scripts in the MULTI of the job's own write."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import redis

from jobs.queue.script import Script


@dataclass(frozen=True, slots=True)
class Effect:
    """A script that runs in the same MULTI as the write that ends or moves a job.

    The queue appends the guard: a zset and a member that is there only if the job's own write will go through.
    """

    script: Script
    keys: Sequence[str]
    args: Sequence[str | int | float]


@dataclass(frozen=True, slots=True)
class Ending:
    """What a hook is told about a failed attempt: `error` is its message, `ended_at` Unix seconds."""

    job_id: str
    args: tuple[Any, ...]
    attempt: int
    worker: str
    error: str
    ended_at: float


class Hooks(Protocol):
    """The hooks of a task. Every effect must be safe to run twice."""

    def retried(self, ending: Ending) -> list[Effect]:
        """The attempt failed and another one will follow."""

    def died(self, ending: Ending) -> list[Effect]:
        """The job becomes a dead letter."""

    def redriven(self, job_id: str, args: tuple[Any, ...], now: float) -> list[Effect]:
        """The dead letter goes back to its queue."""

    def discarded(self, job_id: str, args: tuple[Any, ...], now: float) -> list[Effect]:
        """The dead letter is deleted for good."""


def add_effects(pipeline: redis.client.Pipeline, effects: Sequence[Effect], guard: str, member: str) -> None:
    """Adds a hook's effects to a MULTI, each with its guard: the zset and the member that must still be there."""
    for effect in effects:
        effect.script.in_multi(pipeline, [*effect.keys, guard], [*effect.args, member])
