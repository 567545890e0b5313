"""Takes jobs back whose lease ran out, since their worker died or stood still."""

from collections import Counter

import redis

from jobs import keys
from jobs.queue import ending
from jobs.queue.overview import queue_names
from jobs.queue.script import QUEUE_DIR, script
from scheduler.duty import Counts, logger, one_item

RECLAIM = script(QUEUE_DIR / "reclaim.lua")
BATCH = 100


class Reclamation:
    """The duty that walks every queue's leases. A crash is no attempt, but too many in a row are quarantined."""

    interval_s = 0.5

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def tick(self, now: float) -> Counts:
        """Reclaims at most a batch in each queue."""
        counts: Counter[str] = Counter()
        for queue in queue_names(self._client):
            with one_item("queue not reclaimed", queue=queue):
                counts.update(self._queue(queue, now))
        return counts

    def _queue(self, queue: str, now: float) -> Counts:
        reclaimed, poison, _ghosts = RECLAIM(self._client, [keys.wip(queue)], [queue, repr(now), BATCH, ending.MAX_CRASHES])
        for job_id in reclaimed:
            logger.warning("job reclaimed", job_id=job_id.decode(), queue=queue)
        for member in (entry.decode() for entry in poison):
            with one_item("job not quarantined", member=member, queue=queue):
                ending.bury_crashed(self._client, queue, member, now)
                logger.error("job quarantined", job_id=member.partition(":")[0], queue=queue, crashes=ending.MAX_CRASHES)
        return {"reclaimed": len(reclaimed), "quarantined": len(poison)}
