"""A worker by hand: each of a worker's moves as a call, so that a test can stop between any two of them."""

import asyncio
import inspect
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from jobs import keys, trace
from jobs.queue import claiming, ending
from jobs.queue.attempts import failed_attempt
from jobs.queue.backoff import Dead, Retry, decide
from jobs.queue.ending import Claim, Written
from jobs.queue.outcome import encode_result
from jobs.queue.running import RunningJob, set_running_job
from jobs.queue.script import QUEUE_DIR, script

RECLAIM = script(QUEUE_DIR / "reclaim.lua")
PROMOTE = script(QUEUE_DIR.parents[1] / "scheduler" / "promote.lua")
LEASE_S = 10.0


class Hands:
    """Claims, runs and ends jobs in this process; nothing happens by itself."""

    def __init__(self, client: redis.Redis, name: str = "hands") -> None:
        self.client = client
        self.name = name

    def claim(self, queue: str, *, now: float | None = None, execution: str | None = None) -> Claim | None:
        """Takes the next job of the queue, or None."""
        at = time.time() if now is None else now
        executions = [execution or uuid.uuid4().hex]
        found = claiming.claim(self.client, [queue], self.name, LEASE_S, now=at, executions=executions)
        return found.jobs[0] if found.jobs else None

    def must_claim(self, queue: str, **options: Any) -> Claim:
        """Takes the next job of the queue, which must have one."""
        claim = self.claim(queue, **options)
        if claim is None:
            raise AssertionError(f"nothing is ready on {queue}")
        return claim

    def run(self, claim: Claim) -> Any:
        """Runs the job's function as a worker would, and stops before the ending is written."""
        call = claim.call()
        with self._running(claim), trace.within(claim.trace):
            result = ending.task_of(claim).function(*call.args, **call.kwargs)
            return asyncio.run(result) if inspect.iscoroutine(result) else result

    def finish(self, claim: Claim, result: Any = None, *, result_ttl_s: int = 500) -> Written:
        """Acknowledges success."""
        return ending.finish(self.client, claim, time.time(), encode_result(result), result_ttl_s)

    def fail(self, claim: Claim, error: BaseException, *, uniform: float = 0.5, now: float | None = None) -> Written:
        """Records a failed attempt: a retry or a dead letter, as the task's backoff decides."""
        at = time.time() if now is None else now
        failed = failed_attempt(claim.attempt, claim.started_at, at, self.name, error)
        outcome = decide(ending.task_of(claim).retry, claim.attempt, error, uniform)
        if isinstance(outcome, Retry):
            return ending.retry(self.client, claim, failed, outcome.delay_s)
        if not isinstance(outcome, Dead):
            raise AssertionError(outcome)
        return ending.bury(self.client, claim, failed)

    def work(self, queue: str) -> bool:
        """One job of the queue from claim to ending; False when there is none."""
        claim = self.claim(queue)
        if claim is None:
            return False
        try:
            result = self.run(claim)
        except Exception as error:  # noqa: BLE001  a worker's edge: whatever a job raises is an ending
            self.fail(claim, error)
        else:
            self.finish(claim, result)
        return True

    def work_off(self, *queues: str) -> int:
        """Works until none of the queues has a ready job; returns how many jobs that were."""
        done = 0
        while any(self.work(queue) for queue in queues):
            done += 1
        return done

    def reclaim(self, queue: str, *, now: float | None = None) -> tuple[list[str], list[str], int]:
        """Takes back what has no lease any more; by default as if every lease had run out."""
        at = time.time() + LEASE_S + 1 if now is None else now
        reclaimed, poison, ghosts = RECLAIM(self.client, [keys.wip(queue)], [queue, repr(at), 100, ending.MAX_CRASHES])
        return [job_id.decode() for job_id in reclaimed], [member.decode() for member in poison], ghosts

    def promote(self, *_queues: str) -> int:
        """Moves every job that waits for its time to its queue, whichever that is and whenever it is due; returns how many."""
        args: list[str | int] = [repr(time.time() + 10**9), 1_000, 0]
        return int(PROMOTE(self.client, [keys.SCHEDULED_JOBS, keys.QUEUES], args)[0])

    @contextmanager
    def _running(self, claim: Claim) -> Iterator[None]:
        set_running_job(RunningJob(claim.id, claim.queue, claim.attempt, self.name, claim.execution))
        try:
            yield
        finally:
            set_running_job(None)
