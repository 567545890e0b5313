"""What follows a run of a job, decided in one place: for our workers and, through their callbacks, for stock ones."""

import random
from typing import Any

import redis

from jobs import connections, crash_points, keys
from jobs.errors import DrainTimeout, Permanent, UnknownTask
from jobs.queue import ending
from jobs.queue.attempts import failed_attempt
from jobs.queue.backoff import Dead, Defer, Retry, decide
from jobs.queue.ending import Claim
from jobs.queue.outcome import Outcome, encode_result
from jobs.queue.task import Task

PROBE_S = 1


def succeeded(claim: Claim, task: Task, result: Any, now: float) -> Outcome:
    """The job has returned. A result that is not JSON fails it for good: its work is done, and would be done again."""
    crash_points.reach("run.returned")
    try:
        encoded = encode_result(result)
    except TypeError as error:
        return failed(claim, Permanent(f"the result is not JSON: {error}"), now)
    return Outcome("finished", task.name, _ended_at(claim, now), encoded, claim.number(b"result_ttl", task.defaults.keeps_s()))


def failed(claim: Claim, error: BaseException, now: float, *, failing: float = 0.0) -> Outcome:
    """The job has raised. `failing` is the share of its task's executions that failed of late. May ask Redis if it is there."""
    crash_points.reach("run.raised")
    if isinstance(error, DrainTimeout) or (connections.is_away(error) and _is_away()):
        return handed_back(claim, now)  # nobody's attempt: the job goes on when its worker's successor does, or Redis
    now = _ended_at(claim, now)
    name, follow = claim.text(b"task"), follows(claim, error, now, failing)
    if isinstance(follow, Defer):
        return Outcome("deferred", name, now, delay_s=follow.delay_s)
    attempt = failed_attempt(claim.attempt, claim.started_at, now, claim.worker, error)
    if isinstance(follow, Retry):
        return Outcome("retry", name, now, failed=attempt, delay_s=follow.delay_s)
    return Outcome("dead", name, now, failed=attempt, reason=follow.reason)


def handed_back(claim: Claim, now: float) -> Outcome:
    """The job goes back as it came: its worker stops, or Redis was away."""
    return Outcome("handed back", claim.text(b"task"), now)


def expired(claim: Claim, now: float) -> Outcome:
    """The job came too late to be started."""
    return Outcome("expired", claim.text(b"task"), now)


def follows(claim: Claim, error: BaseException, now: float, failing: float = 0.0) -> Retry | Defer | Dead:
    """Decides by the policy of the job's task, with the numbers that the job itself carries."""
    try:
        policy = ending.task_of(claim).retry
        if b"retry" in claim.hash:
            policy = policy.overridden(claim.text(b"retry"))
    except (UnknownTask, ValueError):
        return Dead("permanent")
    previous_s = claim.seconds(b"backoff_s", 0.0)
    return decide(policy, claim.attempt, error, random.random(), now=now, previous_s=previous_s, failing=failing)


def _ended_at(claim: Claim, now: float) -> float:
    """Not before it began: the clocks of a worker and its child differ by microseconds."""
    return max(now, claim.started_at)


def _is_away() -> bool:
    """Whether it is the workers' own Redis that takes no writes: that of somebody else is an error as any."""
    try:
        connections.process_client().set(keys.PROBE, "", ex=PROBE_S)
    except redis.exceptions.RedisError as error:
        return connections.is_away(error)
    return False
