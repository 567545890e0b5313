"""Periodic jobs with their runs, as the scheduler keeps them; here, so that the web need not know the scheduler."""

from datetime import datetime
from typing import Literal

import msgspec
import redis

from jobs import keys
from jobs.errors import Conflict, NotFound
from jobs.queue.periodic import Missed, Overlap, definition_id
from jobs.queue.script import beside

RUN_NOW = beside(__file__, "run_now")
PAUSE = beside(__file__, "pause_periodic")

Outcome = Literal["waiting", "running", "finished", "dead", "cancelled", "unknown"]
OUTCOMES: dict[str, Outcome] = {
    "started": "running",
    "finished": "finished",
    "failed": "dead",
    "canceled": "cancelled",
    "stopped": "cancelled",
}
"""Of a run by its job's status; one with another status waits for a worker, or for its next attempt."""


class Schedule(msgspec.Struct, frozen=True):
    """One periodic job: at the times of `cron`, or every `every_s` seconds. Instants are Unix seconds.

    `skipped` counts fires that would have overlapped the run before, `missed` those that came too late and are not made up
    for; `waiting` says that a fire waits for the end of the last run. `overdue_s` grows while no scheduler runs.
    """

    name: str
    cron: str
    timezone: str
    task: str
    queue: str
    last_fire_at: float | None
    last_job_id: str | None
    next_fire_at: float | None
    overdue_s: float
    runs: int
    skipped: int
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
    names = sorted(name.decode() for name in client.smembers(keys.PERIODIC))
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hmget(keys.job(definition_id(name)), "task", "origin")
            pipeline.hgetall(keys.periodic(name))
            pipeline.zscore(keys.SCHEDULED_JOBS, definition_id(name))
        answers = pipeline.execute()
    found = []
    for name, job, record, due_at in zip(names, answers[0::3], answers[1::3], answers[2::3], strict=True):
        text = {field.decode(): value.decode() for field, value in record.items()}

        def instant(field: str, text: dict[str, str] = text) -> float | None:
            return float(text[field]) if text.get(field) else None

        found.append(
            Schedule(
                name=name,
                cron=text.get("cron", ""),
                timezone=text.get("timezone", ""),
                task=(job[0] or b"").decode(),
                queue=(job[1] or b"").decode(),
                last_fire_at=instant("last_fire_at"),
                last_job_id=text.get("last_job_id"),
                next_fire_at=instant("next_fire_at"),
                overdue_s=max(0.0, now - due_at) if due_at else 0.0,
                runs=int(text.get("runs", 0)),
                skipped=int(text.get("skipped", 0)),
                every_s=instant("every_s"),
                overlap=text.get("overlap", Overlap.SKIP),
                missed_policy=text.get("missed_policy", Missed.ONCE),
                jitter_s=instant("jitter_s") or 0.0,
                paused_at=instant("paused_at"),
                missed=int(text.get("missed", 0)),
                waiting="waiting" in text,
            )
        )
    return found


def runs(client: redis.Redis, name: str, limit: int) -> list[Run]:
    """The last runs of a periodic job, the newest first; launch.lua keeps 20. Raises NotFound."""
    if not client.sismember(keys.PERIODIC, name):
        raise NotFound("periodic job", name)
    entries = client.lrange(keys.periodic_runs(name), 0, limit - 1) if limit > 0 else []
    return [msgspec.json.decode(entry, type=Run) for entry in entries]


def pause(client: redis.Redis, name: str, now: float) -> bool:
    """From now on its fire times pass without a run; False when it was paused already. Raises NotFound."""
    return _set_paused(client, name, now, "1")


def resume(client: redis.Redis, name: str, now: float) -> bool:
    """It goes on with the next fire time that lies ahead; False when it was not paused. Raises NotFound."""
    return _set_paused(client, name, now, "0")


def _set_paused(client: redis.Redis, name: str, now: float, paused: str) -> bool:
    changed: int = PAUSE(client, [keys.PERIODIC, keys.periodic(name)], [name, repr(now), paused])
    if changed < 0:
        raise NotFound("periodic job", name)
    return bool(changed)


def run_now(client: redis.Redis, name: str, now: float) -> str:
    """Runs a periodic job out of turn, also while it is paused; returns the job's id.

    Raises NotFound, and Conflict while a run has not ended that may not be overlapped.
    """
    definition = definition_id(name)
    job_id = f"{definition}-{int(now * 1000)}-now"
    places = [keys.job(definition), keys.periodic(name), keys.periodic_runs(name), keys.PERIODIC]
    outcome = RUN_NOW(client, places, [name, job_id, repr(now)])
    if outcome == b"unknown":
        raise NotFound("periodic job", name)
    if outcome == b"overlaps":
        raise Conflict(f"the last run of {name} has not ended yet")
    return job_id
