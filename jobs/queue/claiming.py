"""Claiming: a worker takes jobs from its queues, in the order of their priorities, in one round trip."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from jobs import keys
from jobs.queue.ending import Claim
from jobs.queue.priorities import base, served
from jobs.queue.script import Invocation, beside

CLAIM = beside(__file__, "claim")
FIELDS = tuple(
    b"status limited acked crashes data task failures attempts backoff_s retry timeout time_limit_s soft_time_limit_s "
    b"expires_at result_ttl unique canvas trace".split()
)
"""What a claim reads of a job's hash, which holds as much again for RQ's tools; claim.lua relies on the first four."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a claim found. `wait_s`: when less than was asked for, and limits hold jobs back: how soon one of them may start."""

    jobs: list[Claim]
    wait_s: float | None


def bells(queues: Sequence[str]) -> list[str]:
    """What rings when a job is pushed to one of these queues."""
    return [keys.bell(name) for name in dict.fromkeys(map(base, queues))]


def claim(
    client: redis.Redis, queues: Sequence[str], worker: str, lease_s: float, *, now: float, executions: Sequence[str]
) -> Claims:
    """One claim at `now` (Unix seconds), of as many jobs as there are ids of executions.

    Queues are served in the order given, each with its priorities.
    """
    script, places, args = asking(queues, worker, lease_s, now=now, executions=executions)
    return found(script(client, places, args), worker, now)


def asking(queues: Sequence[str], worker: str, lease_s: float, *, now: float | None, executions: Sequence[str]) -> Invocation:
    """What claims, at `now` or whenever the server comes to it; `found` reads its answer."""
    return (
        CLAIM,
        _places(tuple(queues)),
        ["" if now is None else repr(now), repr(lease_s), worker, len(FIELDS), *FIELDS, *executions],
    )


def found(answer: Any, worker: str, now: float) -> Claims:
    """What a claim at `now` answered. `Any`: see RETURNS in claim.lua."""
    wait, *taken = answer
    jobs = []
    for *values, queue, job_id, execution in taken:
        fields = {field: value for field, value in zip(FIELDS, values, strict=True) if value is not None}
        # An id that is no text is nobody's: its end finds no lease, and ends no worker.
        jobs.append(Claim(job_id.decode(errors="replace"), execution.decode(), queue.decode(), worker, fields, now))
    return Claims(jobs, float(wait) if wait else None)


@functools.lru_cache(maxsize=64)
def _places(queues: tuple[str, ...]) -> list[str]:
    names = list(dict.fromkeys(name for queue in queues for name in served(queue)))
    return [keys.SUSPENDED, *(place(name) for place in (_paused, keys.held, keys.queue, keys.wip) for name in names)]


def _paused(queue: str) -> str:
    return keys.paused(base(queue))
