"""Claiming: a worker takes jobs from its queues, in the order of their priorities, in one round trip."""

import time
import uuid
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


class Claimer:
    """Claims for one worker. Queues are served in the order given, each with its priorities."""

    def __init__(self, client: redis.Redis, queues: Sequence[str], worker: str, lease_s: float) -> None:
        self._client = client
        self._queues = list(queues)
        self._worker = worker
        self._lease_s = lease_s

    @property
    def bells(self) -> list[str]:
        """What rings when a job is pushed."""
        return [keys.bell(name) for name in dict.fromkeys(map(base, self._queues))]

    def claim(self, n: int = 1, *, first: int = 0) -> Claims:
        """Takes up to `n` jobs, beginning with the queue of that index: a caller that counts it up serves them in turn."""
        first %= len(self._queues)
        executions = [uuid.uuid4().hex for _ in range(n)]
        queues = [*self._queues[first:], *self._queues[:first]]
        return claim(self._client, queues, self._worker, self._lease_s, now=time.time(), executions=executions)


def claim(
    client: redis.Redis, queues: Sequence[str], worker: str, lease_s: float, *, now: float, executions: Sequence[str]
) -> Claims:
    """One claim at `now` (Unix seconds), of as many jobs as there are ids of executions."""
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
