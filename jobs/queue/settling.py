"""What follows a run of a job, decided in one place: for our workers and, through their callbacks, for stock ones."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis

from jobs.errors import DrainTimeout, Permanent, UnknownTask
from jobs.queue import ending
from jobs.queue.attempts import failed_attempt, message
from jobs.queue.backoff import Dead, Defer, Retry, decide
from jobs.queue.ending import Claim, Written
from jobs.queue.task import Task


@dataclass(frozen=True, slots=True)
class Settled:
    """How a run ends: the write, which may be repeated until Redis has it, and what the log says of it."""

    what: str
    write: Callable[[redis.Redis], Written]
    note: dict[str, Any] = field(default_factory=dict)


def succeeded(claim: Claim, task: Task, result: Any, now: float) -> Settled:
    """The job has returned. A result that is not JSON fails it for good: its work is done, and would be done again."""
    try:
        encoded = ending.encode_result(result)
    except TypeError as error:
        return failed(claim, Permanent(f"the result is not JSON: {error}"), now)
    ttl_s = claim.number(b"result_ttl", task.defaults.keeps_s())
    return Settled("finished", lambda client: ending.finish(client, claim, now, encoded, ttl_s), {"task": task.name})


def failed(claim: Claim, error: BaseException, now: float, *, failing: float = 0.0) -> Settled:
    """The job has raised. `failing` is the share of its task's executions that failed of late."""
    if isinstance(error, DrainTimeout):
        return handed_back(claim, now)
    note = {"error_type": type(error).__name__, "error": message(error)}
    match follows(claim, error, now, failing):
        case Retry(delay_s):
            attempt = failed_attempt(claim.attempt, claim.started_at, now, claim.worker, error)
            note["delay_s"] = f"{delay_s:.3f}"
            return Settled("retry", lambda client: ending.retry(client, claim, attempt, delay_s), note)
        case Defer(delay_s):
            note["delay_s"] = f"{delay_s:.3f}"
            return Settled("deferred", lambda client: ending.release(client, claim, now, now + delay_s), note)
        case Dead(reason):
            attempt = failed_attempt(claim.attempt, claim.started_at, now, claim.worker, error)
            return Settled("dead", lambda client: ending.bury(client, claim, attempt), {"reason": reason, **note})


def handed_back(claim: Claim, now: float) -> Settled:
    """The job goes back as it came: its worker stops, or Redis was away."""
    return Settled("handed back", lambda client: ending.release(client, claim, now))


def expired(claim: Claim, now: float) -> Settled:
    """The job came too late to be started."""
    return Settled("expired", lambda client: ending.expire(client, claim, now))


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
