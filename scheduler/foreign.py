"""Periodic jobs that clients of rq-scheduler registered (`cron`, `schedule(interval=)`), with the times in the job's meta.

As with those of the table, the definition never runs: each fire is a fresh job, `cron-<id>-<fire time>`. A fire while the last
run has not ended is skipped, missed ones are one, and intervals are reckoned from the fire time, so they do not drift.
"""

import json
import math
from datetime import UTC
from typing import Any

import msgspec
import redis
from cronsim import CronSimError
from dateutil.tz import tzlocal  # type: ignore[import-untyped]  # rq-scheduler's own dependency

from jobs import crash_points, keys
from jobs.queue import dead_letters, fire_times
from jobs.queue.script import beside
from scheduler.duty import Counts, logger

FIRE = beside(__file__, "foreign")
RESULT_TTL_S = 86_400
"""Of a run whose definition has rq-scheduler's default, for ever: there that keeps the definition, which here runs never."""
CRON_FIELDS = 5
"""Six and seven have other meanings in rq-scheduler's library for cron than in ours."""
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Timing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What rq-scheduler writes into a periodic job's meta. `use_local_timezone` means that of the scheduler's machine."""

    interval: float | None = None
    cron_string: str | None = None
    use_local_timezone: bool | None = None
    repeat: int | None = None

    def next_fire(self, fire_at: float, now: float) -> float:
        """The first fire time after both. Raises ValueError for times that cannot be read."""
        if self.interval:
            next_at = fire_at + self.interval * (math.floor(max(0.0, now - fire_at) / self.interval) + 1)
            next_at += self.interval if next_at <= now else 0.0  # it was rounded
            if not max(fire_at, now) < next_at < math.inf:
                raise ValueError(f"the interval is {self.interval:g} s")
            return next_at
        if not self.cron_string:
            raise ValueError("neither an interval nor a cron string")
        cron = ALIASES.get(self.cron_string, self.cron_string)
        if len(cron.split()) != CRON_FIELDS:
            raise ValueError(f"the cron string {cron!r} has not {CRON_FIELDS} fields")
        try:
            return next(fire_times.cron(cron, tzlocal() if self.use_local_timezone else UTC, max(fire_at, now)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(f"the cron string {cron!r}: {str(error) or 'it never fires'}") from error


TIMES = Timing.__struct_fields__


class Foreign:
    """Fires them when the promotion finds them due."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def due(self, job_id: str, due_at: float, now: float) -> Counts:
        """Fires it and moves it on to its next time; one that cannot be read becomes a dead letter."""
        meta, origin = self._client.hmget(keys.job(job_id), "meta", "origin")
        try:
            said: dict[str, Any] = json.loads(meta or b"")  # RQ's own decoder: what is the user's in it stays as it is
            timing = msgspec.convert(said, Timing)
            next_at = repr(timing.next_fire(due_at, now))
            fire = [next_at, _run_id(job_id, due_at), *_metas(said, timing.repeat), str(RESULT_TTL_S)]
        except (msgspec.MsgspecError, ArithmeticError, ValueError) as error:
            fire = ["", str(error)]
        places = [keys.job(job_id), keys.SCHEDULED_JOBS]
        crash_points.reach("foreign.read")
        outcome = FIRE(self._client, places, [job_id, repr(now), repr(due_at), meta or b"", *fire]).decode()
        crash_points.reach("foreign.fired")
        if outcome == "unreadable":
            logger.error("rq-scheduler's periodic job cannot be read", job_id=job_id, error=fire[1])
            # A death here leaves it to the duty that reads RQ's failed registries.
            dead_letters.adopt(self._client, (origin or b"default").decode(errors="replace"), job_id, now)
        else:
            logger.info(f"rq-scheduler's periodic job {outcome}", job_id=job_id, fire_at=due_at)
        return {outcome: 1}


def _run_id(job_id: str, fire_at: float) -> str:
    return f"cron-{job_id}-{f'{fire_at:.3f}'.rstrip('0').rstrip('.').replace('.', '_')}"


def _metas(said: dict[str, Any], repeat: int | None) -> tuple[str, str]:
    """The definition's meta after this fire, empty when it was the last one, and that of the run."""
    left = said if repeat is None else said | {"repeat": repeat - 1}
    run = {name: value for name, value in said.items() if name not in TIMES}
    return "" if repeat in (0, 1) else json.dumps(left), json.dumps(run)
