"""Starts the runs of periodic jobs whose time has come.

Each run is a fresh job, `cron-<name>-<fire time>`. Fires that were missed, because no scheduler ran or the run before
was not over, are one run: the next fire time is the first one that lies ahead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import redis

from jobs import keys
from jobs.queue import ending
from jobs.queue.attempts import failed_attempt
from jobs.queue.ending import Claim
from jobs.queue.periodic import Periodic
from jobs.queue.schedules import FIRE
from scheduler import recurrence
from scheduler.duty import logger, one_item
from scheduler.periodic import register


@dataclass(frozen=True, slots=True)
class Due:
    """A definition whose fire time has come. `fire_at` (Unix seconds) is the text that Redis gave, so that it compares equal."""

    id: str
    fire_at: str
    meta: bytes


class Fires:
    """Fires definitions: those of the table by the table, those of stock rq-scheduler clients by their `meta`."""

    def __init__(self, client: redis.Redis, table: Sequence[Periodic]) -> None:
        self._client = client
        self._table = {periodic.definition_id: periodic for periodic in table}
        if len(self._table) != len(table):
            raise ValueError("two periodic jobs have the same name")

    def fire(self, due: Sequence[Due], now: float) -> Counter[str]:
        """Fires each; returns how many were `fired`, `skipped`, `late` or `unknown`."""
        counts: Counter[str] = Counter()
        for definition in due:
            with one_item("periodic job not fired", job_id=definition.id):
                outcome = self._fire(definition, now)
                counts[outcome] += 1
                logger.info("periodic job " + outcome, job_id=definition.id, fire_at=definition.fire_at)
        return counts

    def _fire(self, due: Due, now: float) -> str:
        fire_at = float(due.fire_at)
        periodic = self._table.get(due.id)
        if periodic is not None:
            plan = recurrence.Fire(periodic.next_fire(max(now, fire_at)), "", "")
            record = keys.periodic(periodic.name)
            if not due.meta:
                register(self._client, periodic, now)
        else:
            record = keys.job(due.id)
            try:
                plan = recurrence.plan(due.meta, fire_at, now)
            except ValueError as error:
                self._bury(due.id, error, now)
                return "unreadable"
        job_id = f"{due.id if periodic else 'cron-' + due.id}-{int(fire_at)}"
        outcome: str = FIRE(
            self._client,
            [keys.job(due.id), keys.job(job_id), record, keys.SCHEDULED_JOBS],
            [
                due.id,
                job_id,
                due.fire_at,
                repr(now),
                "" if plan.next_at is None else repr(plan.next_at),
                plan.run_meta,
                plan.definition_meta,
            ],
        ).decode()
        if outcome == "unknown":
            self._client.zrem(keys.SCHEDULED_JOBS, due.id)
        return outcome

    def _bury(self, job_id: str, error: ValueError, now: float) -> None:
        """Makes a definition that nobody can read a dead letter, where it is seen. A kill in between only repeats it."""
        fields = self._client.hgetall(keys.job(job_id))
        if fields:
            queue = fields.get(b"origin", b"default").decode()
            claim = Claim(job_id, "", queue, "scheduler", fields, now)
            ending.bury(self._client, claim, failed_attempt(claim.attempt, now, now, "scheduler", error), fenced=False, burned=0)
        self._client.zrem(keys.SCHEDULED_JOBS, job_id)
