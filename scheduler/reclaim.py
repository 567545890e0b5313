"""Takes jobs back whose lease ran out, since their worker died or stood still."""

import math
import time
from collections import Counter
from collections.abc import Callable

import redis

from jobs import crash_points, keys
from jobs.queue import ending
from jobs.queue.overview import queue_names
from jobs.queue.script import QUEUE_DIR, script
from scheduler.duty import Counts, logger, one_item

RECLAIM = script(QUEUE_DIR / "reclaim.lua")
BATCH = 100
LOOK_S = 0.5
"""The longest time between two looks: a worker whose child died ends the lease at once."""
TICK_S = 0.2
"""A tick begins nothing more after this, so that the other duties are not kept waiting."""
PUT_OFF_S = 60.0
"""For one that cannot be buried: else those would be all that a batch ever sees."""


class Reclamation:
    """The duty that watches every queue's leases, and looks just when one runs out.

    A crash is no attempt, but too many in a row are quarantined. `renewed` tells whether living workers have renewed their
    leases: server.py.
    """

    def __init__(
        self,
        client: redis.Redis,
        renewed: Callable[[], bool] = lambda: True,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._renewed = renewed
        self._monotonic = monotonic
        self.interval_s = LOOK_S

    def tick(self, now: float) -> Counts:
        """Reclaims at most a batch in each queue in which a lease has run out: the one in which that was first comes first."""
        counts: Counter[str] = Counter()
        ends = self._first_ends()
        until = self._monotonic() + TICK_S
        if self._renewed():
            # One that cannot be read comes last.
            for queue in sorted((queue for queue, end in ends.items() if end <= now), key=lambda queue: abs(ends[queue])):
                if self._monotonic() < until:
                    with one_item("queue not reclaimed", queue=queue):
                        self._queue(queue, now, until, counts)
        # The next lease of a queue that was reclaimed is not known; one that could not be is tried again in its time.
        ahead_s = 0.0 if counts.total() else min((end - now for end in ends.values() if end > now), default=LOOK_S)
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

    def _queue(self, queue: str, now: float, until: float, counts: Counter[str]) -> None:
        crash_points.reach("reclaim.asked")
        reclaimed, poison, ghosts = RECLAIM(self._client, [keys.wip(queue)], [queue, repr(now), BATCH, ending.MAX_CRASHES])
        crash_points.reach("reclaim.moved")
        for job_id in reclaimed:
            logger.warning("job reclaimed", job_id=job_id.decode(), queue=queue)
        counts.update(reclaimed=len(reclaimed), ghosts=ghosts)
        for member in (entry.decode() for entry in poison):
            if self._monotonic() < until:
                counts["quarantined"] += self._quarantined(queue, member, now)

    def _quarantined(self, queue: str, member: str, now: float) -> bool:
        with one_item("job not quarantined", member=member, queue=queue):
            ending.bury_crashed(self._client, queue, member, now)
            crash_points.reach("quarantine.buried")
            logger.error("job quarantined", job_id=member.partition(":")[0], queue=queue, crashes=ending.MAX_CRASHES)
            return True
        ending.EXTEND(self._client, [keys.wip(queue)], [repr(now + PUT_OFF_S), member])
        return False
