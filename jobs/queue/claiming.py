"""Claiming: a worker takes jobs from its queues, in the order of their priorities, in one round trip."""

from collections.abc import Sequence
from dataclasses import dataclass

import redis

from jobs import keys
from jobs.queue.ending import Claim
from jobs.queue.priorities import base, served
from jobs.queue.script import beside

CLAIM = beside(__file__, "claim")


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
    names = list(dict.fromkeys(name for queue in queues for name in served(queue)))
    places = [place(name) for place in (_paused, keys.held, keys.queue, keys.wip) for name in names]
    found, wait = CLAIM(client, [keys.SUSPENDED, *places], [repr(now), repr(lease_s), worker, *executions])
    jobs = [
        Claim(job_id.decode(), execution.decode(), name.decode(), worker, dict(zip(flat[::2], flat[1::2], strict=True)), now)
        for name, job_id, execution, flat in found
    ]
    return Claims(jobs, float(wait) if wait else None)


def _paused(queue: str) -> str:
    return keys.paused(base(queue))
