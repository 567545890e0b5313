"""Keeps RQ's registries and ours true to each other: workers that died, dead letters that stock workers made."""

from __future__ import annotations

from collections import Counter

import redis

from jobs import keys
from jobs.queue.overview import queue_names
from jobs.queue.script import beside
from scheduler.duty import Counts, logger

FORGET_WORKERS = beside(__file__, "forget_workers")
INDEX_DEAD = beside(__file__, "index_dead")
SCAN_COUNT = 200


class Registries:
    """The duty that looks at all registered workers, and at the next part of every set of dead letters."""

    name = "registries"
    interval_s = 2.0

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._cursors: dict[str, int] = {}

    def tick(self, now: float) -> Counts:
        """Forgets dead workers and brings the index of dead letters up to date."""
        queues = queue_names(self._client)
        for worker in FORGET_WORKERS(self._client, [keys.WORKERS, *(f"{keys.WORKERS}:{queue}" for queue in queues)], []):
            logger.info("dead worker forgotten", worker=worker.decode().removeprefix("rq:worker:"))
        counts: Counter[str] = Counter()
        failed = [keys.failed(queue) for queue in queues]
        for key in (keys.DEAD, *failed):
            added, removed = INDEX_DEAD(self._client, [keys.DEAD, *failed], [repr(now), *self._next_part(key)])
            for job_id in added:
                logger.warning("dead letter of a stock worker", job_id=job_id.decode())
            counts.update({"dead_found": len(added), "dead_gone": len(removed)})
        return counts

    def _next_part(self, key: str) -> list[str]:
        self._cursors[key], found = self._client.zscan(key, self._cursors.get(key, 0), count=SCAN_COUNT)
        return [job_id.decode() for job_id, _ in found]
