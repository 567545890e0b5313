"""Fires periodic jobs at their times, makes up for what was missed, and follows what becomes of the runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import redis

from jobs import crash_points, keys
from jobs.queue import fire_times
from jobs.queue.periodic import Missed, Overlap, Periodic, definition_id
from jobs.queue.schedules import Run
from jobs.queue.script import beside
from scheduler.duty import Counts, logger, one_item

FIRE = beside(__file__, "fire")
RUN_WAITING = beside(__file__, "run_waiting")
FOLLOW = beside(__file__, "follow")
MAX_AT_ONCE = 100
"""Fire times that one call works off; the next one goes on."""
ENDED = ("finished", "dead", "cancelled", "unknown")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fire time brings: the fire times to be run now, how many are missed for good, and the next fire time.

    `waits` is how many runs may wait for the end of the last one.
    """

    runs: tuple[float, ...]
    missed: int
    next_at: float
    waits: int


def plan(periodic: Periodic, fire_at: float, now: float, *, passed_until: float) -> Plan | None:
    """Decides about the next fire time and those after it; None when it is not due. Up to `passed_until` it was paused."""
    if periodic.due_at(fire_at) > now:
        return None
    waits = int(periodic.overlap is Overlap.QUEUE_ONE)
    if fire_at <= passed_until:
        return Plan((), 0, periodic.next_fire(passed_until), waits)
    in_time_from = now - periodic.jitter_s - periodic.grace_s
    if fire_at >= in_time_from:
        return Plan((fire_at,), 0, periodic.next_fire(fire_at), waits)
    made_up = {Missed.SKIP: 0, Missed.ONCE: 1, Missed.ALL: periodic.missed_max}[periodic.missed]
    runs = fire_times.latest(periodic.fires, fire_at, in_time_from, made_up) if made_up else []
    missed = max(0, periodic.n_fires(fire_at, in_time_from) - len(runs))
    next_at = next(at for at in periodic.fires(in_time_from - 1) if at >= in_time_from)
    return Plan(tuple(runs), missed, next_at, made_up if periodic.missed is Missed.ALL else waits)


class Fires:
    """Fires the jobs of the table when the promotion finds their definitions due."""

    def __init__(self, client: redis.Redis, table: Sequence[Periodic]) -> None:
        self._client = client
        self._table = {definition_id(periodic.name): periodic for periodic in table}
        if len(self._table) != len(table):
            raise ValueError("two periodic jobs have the same name")

    def due(self, definition_id: str, now: float) -> Counts:
        """Works off all its fire times that are due. What is missing in Redis is put right by the registration."""
        counts: Counter[str] = Counter()
        if definition_id not in self._table:
            return {"unknown": 1}
        for _ in range(MAX_AT_ONCE):
            done = self._next(self._table[definition_id], definition_id, now)
            counts.update(done)
            if "fired" not in done:
                break
        return counts

    def _next(self, periodic: Periodic, definition: str, now: float) -> Counts:
        """Fires the next fire time, if it is due."""
        name = periodic.name
        fire_at, paused_at, resumed_at = self._client.hmget(keys.periodic(name), "next_fire_at", "paused_at", "resumed_at")
        if fire_at is None:
            return {"unknown": 1}
        planned = plan(periodic, float(fire_at), now, passed_until=now if paused_at else float(resumed_at or 0.0))
        if planned is None:
            return {}
        due_at = repr(periodic.due_at(planned.next_at))
        crash_points.reach("fire.read")
        refusal, fired, skipped, waiting = FIRE(
            self._client,
            [keys.job(definition), keys.periodic(name), keys.periodic_runs(name), keys.SCHEDULED_JOBS],
            [definition, repr(now), fire_at, f"{planned.next_at:.0f}", due_at, planned.missed, planned.waits]
            + [f"{at:.0f}" for at in planned.runs],
        )
        crash_points.reach("fire.written")
        if refusal:
            return {refusal.decode(): 1}
        counts = {"fired": fired, "skipped": skipped, "missed": planned.missed}
        if any(counts.values()) or waiting:
            logger.info("periodic job fired", periodic=name, fire_at=float(fire_at), waiting=waiting, **counts)
        return counts


class Runs:
    """The duty that notes how runs ended, and runs what waited for that."""

    interval_s = 1.0

    def __init__(self, client: redis.Redis, table: Sequence[Periodic]) -> None:
        self._client = client
        self._table = table

    def tick(self, now: float) -> Counts:
        """Looks at every fire that waits, and at every run that has not ended as far as is known."""
        counts: Counter[str] = Counter()
        with self._client.pipeline(transaction=False) as pipeline:
            for periodic in self._table:
                pipeline.lrange(keys.periodic_runs(periodic.name), 0, -1)
                pipeline.hexists(keys.periodic(periodic.name), "waiting")
            answers = pipeline.execute(raise_on_error=False)
        for periodic, entries, waits in zip(self._table, answers[0::2], answers[1::2], strict=True):
            with one_item("runs of a periodic job not followed", periodic=periodic.name):
                if waits is True:
                    counts["fired"] += self._run_waiting(periodic.name, now)
                self._follow(periodic.name, entries)
        return counts

    def _follow(self, name: str, entries: list[bytes] | Exception) -> None:
        if isinstance(entries, Exception):
            raise entries
        read = [(entry, msgspec.json.decode(entry, type=Run)) for entry in entries]
        followed = [(entry, run) for entry, run in read if run.outcome not in ENDED]
        with self._client.pipeline(transaction=False) as pipeline:
            for _entry, run in followed:
                pipeline.hmget(keys.job(run.job_id), "status", "started_at", "ended_at")
            hashes = pipeline.execute()
        told: list[bytes] = []
        for (entry, run), fields in zip(followed, hashes, strict=True):
            status, started, ended = (field and field.decode() for field in fields)
            now_known = run.followed(status, started or "", ended or "")
            if now_known != run:
                told += entry, msgspec.json.encode(now_known)
        if told:
            crash_points.reach("runs.read")
            FOLLOW(self._client, [keys.periodic_runs(name)], told)

    def _run_waiting(self, name: str, now: float) -> int:
        definition = definition_id(name)
        places = [keys.job(definition), keys.periodic(name), keys.periodic_runs(name)]
        ran: int = RUN_WAITING(self._client, places, [definition, repr(now)])
        crash_points.reach("fire.waited")
        if ran:
            logger.info("periodic job fired after its last run", periodic=name)
        return ran
