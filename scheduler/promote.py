"""Moves jobs to their queues when they are due, whoever delayed them, and fires what is periodic among them."""

from __future__ import annotations

from collections import Counter

import redis

from jobs import keys
from jobs.queue.overview import queue_names
from jobs.queue.script import beside
from scheduler.duty import Counts, logger
from scheduler.fire import Due, Fires

PROMOTE = beside(__file__, "promote")
BATCH = 500
MAX_BATCHES = 20
"""Batches in one tick, so that a long backlog does not keep the other duties waiting."""
PUT_OFF_S = 60.0


class Promotion:
    """The duty that promotes rq-scheduler's set and RQ's own scheduled registries."""

    name = "promote"
    interval_s = 0.1

    def __init__(self, client: redis.Redis, fires: Fires) -> None:
        self._client = client
        self._fires = fires
        self._told: set[str] = set()

    def tick(self, now: float) -> Counts:
        """Promotes batch after batch until one is not full."""
        counts: Counter[str] = Counter()
        names = queue_names(self._client)
        for _ in range(MAX_BATCHES):
            looked_at, done = self._batch(names, now)
            counts.update(done)
            if looked_at < BATCH:
                break
        return counts

    def _batch(self, names: list[str], now: float) -> tuple[int, Counter[str]]:
        sets = [keys.SCHEDULED_JOBS, *(keys.scheduled(name) for name in names)]
        looked_at, promoted, dangling, ended, definitions, unreadable, broken = PROMOTE(
            self._client, [keys.PERIODIC, *sets], [repr(now), BATCH, PUT_OFF_S, "default", *names]
        )
        for job_id in unreadable:
            # Possibly a periodic job with pickled meta, which is never unpickled: it runs this once, or dies visibly.
            logger.warning("promoted a job whose meta is not JSON", job_id=job_id.decode())
        for what, error in zip(broken[::2], broken[1::2], strict=True):
            if what.decode() not in self._told:
                logger.error("cannot be promoted", what=what.decode(), error=error.decode(), put_off_s=PUT_OFF_S)
            # A job comes back after PUT_OFF_S, a set that is none with every batch.
            self._told.update({what.decode()} & set(sets))
        due = [
            Due(job_id.decode(), fire_at.decode(), meta)
            for job_id, fire_at, meta in zip(definitions[::3], definitions[1::3], definitions[2::3], strict=True)
        ]
        counts = self._fires.fire(due, now)
        counts.update({"promoted": promoted, "dangling": dangling, "ended": ended})
        return looked_at, counts
