"""Moves jobs to their queues when they are due, whoever delayed them, and hands periodic ones to those who fire them."""

import time
from collections import Counter
from collections.abc import Callable

import redis

from jobs import crash_points, keys
from jobs.queue import dead_letters
from jobs.queue.script import beside
from scheduler.duty import Counts, logger, one_item

PROMOTE = beside(__file__, "promote")
BATCH = 250
"""A batch is one script, for whose time every other client waits: about 1.5 ms. Larger ones are not faster."""
MAX_TICK_S = 0.25
"""A longer backlog goes on in the next tick, so that the other duties do not wait."""
LOOK_S = 0.04
"""How often is looked for jobs that nobody knew of, which bounds the delay of those with a very short one."""
GAP_S = 0.004
"""Between two ticks, when little is due in each: jobs that fall due one shortly after the other are promoted together."""
AGAIN_S = 1.0
"""A periodic job that is still due at the same time, because its fire failed, is not handed over again sooner."""

Fire = Callable[[str, float], Counts]
"""What happens with a definition of our table that is due: (definition, now)."""
FireForeign = Callable[[str, float, float], Counts]
"""The same for a periodic job of rq-scheduler's clients: (job id, due at, now)."""

Place = tuple[str, float]
"""A periodic job and the time at which it is due."""
Handed = dict[Place, float]


class Promotion:
    """The duty that promotes rq-scheduler's set and RQ's own scheduled registries."""

    def __init__(
        self,
        client: redis.Redis,
        fire: Fire,
        fire_foreign: FireForeign,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.interval_s = LOOK_S
        self._client = client
        self._fire = fire
        self._fire_foreign = fire_foreign
        self._monotonic = monotonic
        self._handed: Handed = {}

    def tick(self, now: float) -> Counts:
        """Promotes batch after batch until nothing more is due, or its time is over. Sets `interval_s` to be called in time."""
        counts: Counter[str] = Counter(promoted=0)
        began_at = self._monotonic()
        handed: Handed = {}
        standing = 0
        while True:
            crash_points.reach("promote.asked")
            promoted, dangling, more, next_at, periodic, unreadable = PROMOTE(
                self._client, [keys.SCHEDULED_JOBS, keys.QUEUES], [repr(now), BATCH, standing]
            )
            crash_points.reach("promote.moved")
            counts.update(promoted=promoted, dangling=dangling, unreadable=len(unreadable))
            for letter in unreadable:
                self._bury(now, *(text.decode(errors="replace") for text in letter))
            standing = len(periodic)
            for member, score, is_ours in periodic:
                job_id, due_at = member.decode(errors="replace"), float(score)
                if self._is_fresh((job_id, due_at), handed, now):
                    standing -= 1
                    with one_item("periodic job not fired", job_id=job_id):
                        counts.update(self._fire(job_id, now) if is_ours else self._fire_foreign(job_id, due_at, now))
            if not more or self._monotonic() - began_at >= MAX_TICK_S:
                break
        self._handed = handed
        wait_s = LOOK_S if not next_at else float(next_at) - now
        self.interval_s = 0.0 if more else min(LOOK_S, max(GAP_S, wait_s))
        return counts

    def _is_fresh(self, place: Place, handed: Handed, now: float) -> bool:
        """Whether a periodic job was not handed over a moment ago; notes in `handed` when it was."""
        before = handed.get(place, self._handed.get(place, float("-inf")))
        is_fresh = now - before >= AGAIN_S
        handed[place] = now if is_fresh else before
        return is_fresh

    def _bury(self, now: float, job_id: str, queue: str, reason: str) -> None:
        """Gives the dead letter its group and tells its canvas; a death here leaves that to the duty `Registries`."""
        logger.error("due job cannot be read", job_id=job_id, queue=queue, error=reason)
        crash_points.reach("promote.unreadable")
        with one_item("dead letter not adopted", job_id=job_id, queue=queue):
            dead_letters.adopt(self._client, queue, job_id, now)
