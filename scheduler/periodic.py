"""Keeps the periodic jobs in Redis as the table declares them: at boot and again and again, since others can delete them.

Each stands in rq-scheduler's set as a definition, `cron-<name>`, at its next fire time. The definition itself never runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import redis

from jobs import keys
from jobs.queue.periodic import Periodic
from jobs.queue.script import beside
from scheduler.duty import Counts, logger, one_item

REGISTER = beside(__file__, "register")


class Registration:
    """The duty that asserts the table."""

    name = "register"
    interval_s = 10.0

    def __init__(self, client: redis.Redis, table: Sequence[Periodic]) -> None:
        self._client = client
        self._table = table

    def tick(self, now: float) -> Counts:
        """Registers every job of the table and removes those that are in it no longer."""
        for periodic in self._table:
            with one_item("periodic job not registered", periodic=periodic.name):
                register(self._client, periodic, now)
        declared = {periodic.name for periodic in self._table}
        for name in sorted(member.decode() for member in self._client.smembers(keys.PERIODIC)):
            if name not in declared:
                unregister(self._client, name)
                logger.info("periodic job removed", periodic=name)
        return {}


def register(client: redis.Redis, periodic: Periodic, now: float) -> None:
    """Makes Redis hold the periodic job as declared."""
    spec = periodic.definition(now)
    meta = {"cron_string": periodic.cron, "timezone": periodic.timezone, "name": periodic.name}
    fields = [*json.loads(spec.fields), "status", "scheduled", "meta", json.dumps(meta)]
    changed = REGISTER(
        client,
        [keys.job(spec.id), keys.periodic(periodic.name), keys.PERIODIC, keys.SCHEDULED_JOBS],
        [periodic.name, spec.id, json.dumps(fields), f"{periodic.cron} {periodic.timezone}", repr(periodic.next_fire(now))],
    )
    if changed:
        logger.info("periodic job registered", periodic=periodic.name, cron=periodic.cron, timezone=periodic.timezone)


def unregister(client: redis.Redis, name: str) -> None:
    """Removes a periodic job with its record; a run that was fired goes on."""
    definition = f"cron-{name}"
    with client.pipeline(transaction=True) as pipeline:
        pipeline.zrem(keys.SCHEDULED_JOBS, definition)
        pipeline.delete(keys.job(definition), keys.periodic(name))
        pipeline.srem(keys.PERIODIC, name)
        pipeline.execute()
