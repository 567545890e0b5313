"""Takes jobs back whose lease ran out, since their worker died or stood still."""

import math
from collections import Counter
from collections.abc import Callable

import redis

from jobs import keys
from jobs.queue import ending
from jobs.queue.overview import queue_names
from jobs.queue.script import QUEUE_DIR, script
from scheduler.duty import Counts, logger, one_item

RECLAIM = script(QUEUE_DIR / "reclaim.lua")
BATCH = 100
LOOK_S = 0.5
"""The longest time between two looks: a worker whose child died ends the lease at once."""


class Reclamation:
    """The duty that watches every queue's leases, and looks just when one runs out.

    A crash is no attempt, but too many in a row are quarantined. `renewed` tells whether living workers have renewed their
    leases: server.py.
    """

    def __init__(self, client: redis.Redis, renewed: Callable[[], bool] = lambda: True) -> None:
        self._client = client
        self._renewed = renewed
        self.interval_s = LOOK_S

    def tick(self, now: float) -> Counts:
        """Reclaims at most a batch in each queue in which a lease has run out."""
        counts: Counter[str] = Counter()
        ends = self._first_ends()
        if self._renewed():
            for queue in (queue for queue, end in ends.items() if end <= now):
                with one_item("queue not reclaimed", queue=queue):
                    counts.update(self._queue(queue, now))
        # The next lease of a queue that was reclaimed is not known; one that could not be is tried again in its time.
        ahead_s = 0.0 if counts["reclaimed"] else min((end - now for end in ends.values() if end > now), default=LOOK_S)
        self.interval_s = min(LOOK_S, ahead_s)
        return counts

    def _first_ends(self) -> dict[str, float]:
        """When the first lease of each queue runs out, in one round trip; reclaim.lua refuses what cannot be read."""
        queues = queue_names(self._client)
        with self._client.pipeline(transaction=False) as pipeline:
            for queue in queues:
                pipeline.zrange(keys.wip(queue), 0, 0, withscores=True)
            found = pipeline.execute(raise_on_error=False)
        ends = {}
        for queue, first in zip(queues, found, strict=True):
            ends[queue] = -math.inf if isinstance(first, Exception) else first[0][1] if first else math.inf
        return ends

    def _queue(self, queue: str, now: float) -> Counts:
        reclaimed, poison, _ghosts = RECLAIM(self._client, [keys.wip(queue)], [queue, repr(now), BATCH, ending.MAX_CRASHES])
        for job_id in reclaimed:
            logger.warning("job reclaimed", job_id=job_id.decode(), queue=queue)
        for member in (entry.decode() for entry in poison):
            with one_item("job not quarantined", member=member, queue=queue):
                ending.bury_crashed(self._client, queue, member, now)
                logger.error("job quarantined", job_id=member.partition(":")[0], queue=queue, crashes=ending.MAX_CRASHES)
        return {"reclaimed": len(reclaimed), "quarantined": len(poison)}
