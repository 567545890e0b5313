"""Keeps the periodic jobs in Redis as the table declares them: at boot and again and again, since others can delete them.

Each stands in rq-scheduler's set as a definition, `cron-<name>`, at its next fire time. The definition itself never runs.
"""

from collections.abc import Sequence

import redis

from jobs import keys
from jobs.queue.periodic import Periodic, definition_id
from jobs.queue.script import beside
from scheduler.duty import Counts, logger, one_item

REGISTER = beside(__file__, "register")


class Registration:
    """The duty that asserts the table."""

    interval_s = 10.0

    def __init__(self, client: redis.Redis, table: Sequence[Periodic]) -> None:
        self._client = client
        self._table = table

    def tick(self, now: float) -> Counts:
        """Registers every job of the table and removes those that are in it no longer."""
        for periodic in self._table:
            with one_item("periodic job not registered", periodic=periodic.name):
                self._register(periodic, now)
        registered = {member.decode() for member in self._client.smembers(keys.PERIODIC)}
        for name in sorted(registered - {periodic.name for periodic in self._table}):
            self._remove(name)
            logger.info("periodic job removed", periodic=name)
        return {}

    def _register(self, periodic: Periodic, now: float) -> None:
        spec = periodic.definition()
        changed = REGISTER(
            self._client,
            [keys.job(spec.id), keys.periodic(periodic.name), keys.PERIODIC, keys.SCHEDULED_JOBS],
            [periodic.name, spec.id, spec.fields, periodic.cron, periodic.timezone, repr(periodic.next_fire(now))],
        )
        if changed:
            logger.info("periodic job registered", periodic=periodic.name, cron=periodic.cron, timezone=periodic.timezone)

    def _remove(self, name: str) -> None:
        """With its record; a run that was fired goes on."""
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.zrem(keys.SCHEDULED_JOBS, definition_id(name))
            pipeline.delete(keys.job(definition_id(name)), keys.periodic(name))
            pipeline.srem(keys.PERIODIC, name)
            pipeline.execute()
