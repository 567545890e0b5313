"""Keeps the periodic jobs in Redis as the table declares them: at boot and again and again, since others can delete them.

Each stands in rq-scheduler's set as a definition, `cron-<name>`, when its next fire is due. The definition itself never runs.
Its record holds the next fire time; a record that was deleted is restored from what this process has last seen of it.
"""

import math
from collections.abc import Mapping, Sequence

import redis

from jobs import crash_points, keys
from jobs.queue.job import JSON, flattened
from jobs.queue.periodic import Periodic, definition_id
from jobs.queue.script import beside
from scheduler.duty import Counts, logger, one_item

REGISTER = beside(__file__, "register")
UNREGISTER = beside(__file__, "unregister")
TIMES = ("cron", "timezone", "every_s")
COUNTS = ("runs", "skipped", "missed")
INSTANTS = ("next_fire_at", "last_fire_at", "paused_at", "resumed_at")
FORGET_S = 60.0
"""A process that has not looked for so long has not led: what it saw last is not what was."""

Fields = dict[str, str]


class Registration:
    """The duty that asserts the table."""

    interval_s = 2.0

    def __init__(self, client: redis.Redis, table: Sequence[Periodic]) -> None:
        self._client = client
        self._table = table
        self._seen: dict[str, Fields] = {}
        self._looked_at = -math.inf

    def tick(self, now: float) -> Counts:
        """Registers every job of the table and removes those that are in it no longer."""
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.smembers(keys.PERIODIC)
            for periodic in self._table:
                pipeline.hgetall(keys.job(definition_id(periodic.name)))
                pipeline.hgetall(keys.periodic(periodic.name))
                pipeline.zscore(keys.SCHEDULED_JOBS, definition_id(periodic.name))
            members, *answers = pipeline.execute(raise_on_error=False)
        if isinstance(members, Exception):
            raise members
        if now - self._looked_at > FORGET_S:
            self._seen.clear()
        self._looked_at = now
        for periodic, job, record, score in zip(self._table, answers[0::3], answers[1::3], answers[2::3], strict=True):
            with one_item("periodic job not registered", periodic=periodic.name):
                stands = _text(job), score if periodic.name.encode() in members else None
                self._register(periodic, _text(record), stands, now)
        for member in sorted(members - {periodic.name.encode() for periodic in self._table}):
            self._remove(member)
        return {}

    def _register(self, periodic: Periodic, found: Fields, stands: tuple[Fields, float | None], now: float) -> None:
        """Writes only what is not as it should be; `stands` are the definition and when it is due, None when it is not known."""
        name, spec, spoilt = periodic.name, periodic.definition(), not _is_readable(found)
        record = {} if spoilt else found
        before = record if "next_fire_at" in record else {**self._seen.get(name, {}), **record}
        declared = _declared(periodic)
        same_times = all(before.get(field) == declared[field] for field in TIMES)
        fire_at = float(before["next_fire_at"]) if same_times and "next_fire_at" in before else periodic.next_fire(now)
        changes = declared | {"next_fire_at": f"{fire_at:.0f}"}
        if before is not record:
            changes = before | changes
        # Its field `definition` tells it from a job, also when all else that tells was deleted.
        definition = dict(zip(spec.flat[::2], spec.flat[1::2], strict=True)) | {"status": "scheduled", "definition": "1"}
        due_at = periodic.due_at(fire_at)
        self._seen[name] = record | changes
        if stands == (definition, due_at) and record | changes == record:
            return
        places = [keys.job(spec.id), keys.periodic(name), keys.PERIODIC, keys.SCHEDULED_JOBS]
        hashes = JSON.encode(flattened(definition)), JSON.encode(flattened(changes))
        times = found.get("next_fire_at", ""), repr(due_at)
        crash_points.reach("register.read")
        if REGISTER(self._client, places, [name, spec.id, *hashes, *times, int(spoilt)]):
            crash_points.reach("register.written")
            logger.info("periodic job registered", periodic=name, next_fire_at=fire_at, **{f: declared[f] for f in TIMES})

    def _remove(self, member: bytes) -> None:
        name = member.decode(errors="replace")
        definition = definition_id(name)
        places = [keys.job(definition), keys.periodic(name), keys.periodic_runs(name), keys.PERIODIC, keys.SCHEDULED_JOBS]
        UNREGISTER(self._client, places, [member, definition])
        logger.info("periodic job removed", periodic=name)


def _declared(periodic: Periodic) -> Fields:
    """What the record says of the job besides its history."""
    return {
        "cron": periodic.cron,
        "timezone": periodic.timezone,
        "every_s": "" if periodic.every_s is None else str(periodic.every_s),
        "overlap": periodic.overlap,
        "missed_policy": periodic.missed,
        "jitter_s": repr(float(periodic.jitter_s)),
    }


def _text(found: object) -> Fields:
    """A hash that was read; nothing when another type of key is in its place."""
    if not isinstance(found, Mapping):
        return {}
    return {field.decode(errors="replace"): value.decode(errors="replace") for field, value in found.items()}


def _is_readable(record: Fields) -> bool:
    try:
        return all(math.isfinite(float(record.get(field, 0))) for field in INSTANTS) and all(
            record.get(field, "0").isdecimal() for field in COUNTS
        )
    except ValueError:
        return False
