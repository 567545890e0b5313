"""Periodic jobs with their runs, as the scheduler keeps them; here, so that the web need not know the scheduler."""

from datetime import datetime
from typing import Literal

import msgspec
import redis

from jobs import keys
from jobs.errors import Conflict, NotFound
from jobs.queue import audit
from jobs.queue.periodic import Missed, Overlap, definition_id
from jobs.queue.script import beside

STEER = beside(__file__, "steer_periodic")

Action = Literal["run", "pause", "resume"]
Outcome = Literal["waiting", "running", "finished", "dead", "cancelled", "unknown"]
OUTCOMES: dict[str, Outcome] = {
    "started": "running",
    "finished": "finished",
    "failed": "dead",
    "canceled": "cancelled",
    "stopped": "cancelled",
}
"""Of a run by its job's status; one with another status waits for a worker, or for its next attempt."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """One periodic job: at the times of `cron`, or every `every_s` seconds. Instants are Unix seconds.

    `skipped` counts fires that would have overlapped the run before, `missed` those that came too late and are not made up
    for; `waiting` says that a fire waits for the end of the last run. `overdue_s` grows while no scheduler runs.
    """

    name: str
    cron: str = ""
    timezone: str = ""
    task: str
    queue: str
    last_fire_at: float | None
    last_job_id: str | None
    next_fire_at: float | None
    overdue_s: float
    runs: int = 0
    skipped: int = 0
    every_s: float | None = None
    overlap: str = Overlap.SKIP
    missed_policy: str = Missed.ONCE
    jitter_s: float = 0.0
    paused_at: float | None = None
    missed: int = 0
    waiting: bool = False


class Run(msgspec.Struct, frozen=True):
    """One run of a periodic job. `fire_at` is the time for which it was made; `unknown` is one whose job was deleted."""

    job_id: str
    fire_at: float
    started_at: float | None = None
    ended_at: float | None = None
    duration_s: float | None = None
    outcome: Outcome = "waiting"

    def followed(self, status: str | None, started: str, ended: str) -> "Run":
        """The run as its job's hash says: status and instants in RQ's format, None and empty when they are not there."""
        if status is None:
            return msgspec.structs.replace(self, outcome="unknown")
        outcome = OUTCOMES.get(status, "waiting")
        started_at = _instant(started) if outcome != "waiting" else None
        ended_at = _instant(ended) if outcome not in ("waiting", "running") else None
        duration_s = None if started_at is None or ended_at is None else round(ended_at - started_at, 6)
        return Run(self.job_id, self.fire_at, started_at, ended_at, duration_s, outcome)


def _instant(text: str) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def schedules(client: redis.Redis, now: float) -> list[Schedule]:
    """The periodic jobs that are registered, by name, in two round trips."""
    names = sorted(name.decode(errors="replace") for name in client.smembers(keys.PERIODIC))
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hmget(keys.job(definition_id(name)), "task", "origin")
            pipeline.hgetall(keys.periodic(name))
            pipeline.zscore(keys.SCHEDULED_JOBS, definition_id(name))
        answers = pipeline.execute()
    found = []
    for name, (task, queue), record, due_at in zip(names, answers[0::3], answers[1::3], answers[2::3], strict=True):
        shown = {
            "next_fire_at": None,
            "last_fire_at": None,
            "last_job_id": None,
            **{field.decode(): value.decode() for field, value in record.items() if value},
            "name": name,
            "task": (task or b"").decode(),
            "queue": (queue or b"").decode(),
            "overdue_s": max(0.0, now - due_at) if due_at else 0.0,
            "waiting": b"waiting" in record,
        }
        found.append(msgspec.convert(shown, Schedule, strict=False))
    return found


def runs(client: redis.Redis, name: str) -> list[Run]:
    """The last 20 runs of a periodic job, the newest first. Raises NotFound."""
    if not client.sismember(keys.PERIODIC, name):
        raise NotFound("periodic job", name)
    return [msgspec.json.decode(entry, type=Run) for entry in client.lrange(keys.periodic_runs(name), 0, -1)]


def last_run(client: redis.Redis, name: str) -> Run | None:
    """The newest run, of a job that may have left the table."""
    entry = client.lindex(keys.periodic_runs(name), 0)
    return entry and msgspec.json.decode(entry, type=Run)


def act(client: redis.Redis, action: Action, name: str, now: float, *, by: str) -> str:
    """Runs it out of turn, also while it is paused; or lets its fire times pass without a run from now on, also those that have
    come and were not fired yet; or lets it go on with the next one that lies ahead. In the audit trail unless it changes nothing.

    Returns the id of the run, else nothing. Raises NotFound, and Conflict while a run has not ended that may not be overlapped.
    """
    definition = definition_id(name)
    job_id = f"{definition}-{int(now * 1000)}-now" if action == "run" else ""
    places = [keys.job(definition), keys.periodic(name), keys.periodic_runs(name), keys.PERIODIC]
    outcome = STEER(client, places, [action, name, repr(now), by, job_id])
    if outcome == b"unknown":
        raise NotFound("periodic job", name)
    if outcome == b"overlaps":
        raise Conflict(f"the last run of {name} has not ended yet")
    if outcome == b"done":
        audit.say(f"{action} schedule", who=by, target=name)
    return job_id
