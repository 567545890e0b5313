"""Moves jobs to their queues when they are due, whoever delayed them, and fires what is periodic among them."""

from collections import Counter
from collections.abc import Sequence

import redis

from jobs import keys
from jobs.queue import schedules
from jobs.queue.overview import queue_names
from jobs.queue.periodic import Periodic, definition_id
from jobs.queue.script import beside
from scheduler.duty import Counts, logger, one_item

PROMOTE = beside(__file__, "promote")
BATCH = 500
MAX_BATCHES = 20
"""Batches in one tick, so that a long backlog does not keep the other duties waiting."""
PUT_OFF_S = 60.0


class Promotion:
    """The duty that promotes rq-scheduler's set and RQ's own scheduled registries. `table` holds the periodic jobs."""

    interval_s = 0.1

    def __init__(self, client: redis.Redis, table: Sequence[Periodic]) -> None:
        self._client = client
        self._table = {definition_id(periodic.name): periodic for periodic in table}
        if len(self._table) != len(table):
            raise ValueError("two periodic jobs have the same name")

    def tick(self, now: float) -> Counts:
        """Promotes batch after batch until one is not full."""
        counts: Counter[str] = Counter()
        names = queue_names(self._client)
        sets = [keys.SCHEDULED_JOBS, *(keys.scheduled(name) for name in names)]
        for _ in range(MAX_BATCHES):
            looked_at, promoted, definitions, once, broken = PROMOTE(
                self._client, [keys.PERIODIC, *sets], [repr(now), BATCH, PUT_OFF_S, "default", *names]
            )
            counts["promoted"] += promoted
            for job_id in once:
                logger.warning("rq-scheduler's periodic jobs are not served: it runs this once", job_id=job_id.decode())
            for job_id, error in zip(broken[::2], broken[1::2], strict=True):
                logger.error("cannot be promoted", job_id=job_id.decode(), error=error.decode(), put_off_s=PUT_OFF_S)
            for definition, fire_at in zip(definitions[::2], definitions[1::2], strict=True):
                with one_item("periodic job not fired", job_id=definition.decode()):
                    counts[self._fire(definition.decode(), float(fire_at), now)] += 1
            if looked_at < BATCH:
                break
        return counts

    def _fire(self, definition: str, fire_at: float, now: float) -> str:
        """Fires that were missed are one run: the next fire time is the first one that lies ahead."""
        periodic = self._table.get(definition)
        if periodic is None:
            return "unknown"  # from another version's table: the registration removes it
        outcome = schedules.fire(self._client, periodic.name, fire_at, periodic.next_fire(max(now, fire_at)), now)
        if outcome != "unknown":  # deleted by somebody: the registration restores it, and it is still due
            logger.info("periodic job " + outcome, job_id=definition, fire_at=fire_at)
        return outcome
