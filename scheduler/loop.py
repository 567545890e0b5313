"""The one loop of the process: runs each duty when its interval has passed, as long as this process leads.

Redis being away is an ordinary state: the loop waits, longer each time up to a limit, and goes on where it was.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from jobs import log
from jobs.connections import is_away
from scheduler.duty import Duty
from scheduler.leader import Leader
from scheduler.stop import Stop

logger = log.get("scheduler")

FIRST_WAIT_S = 0.1
MAX_WAIT_S = 2.0
REMIND_AFTER_S = 60.0
FAILED_WAIT_S = 1.0
"""A duty that failed as a whole is not tried again sooner, lest the log fill up."""


class Loop:
    """Runs `heartbeat` always, which campaigns for the lease, and `duties` while this process leads."""

    def __init__(
        self,
        leader: Leader,
        heartbeat: Duty,
        duties: Sequence[Duty],
        counts: Counter[str],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leader = leader
        self._heartbeat = heartbeat
        self._duties = duties
        self._counts = counts
        self._clock = clock
        self._monotonic = monotonic
        self._due = dict.fromkeys((duty.name for duty in (heartbeat, *duties)), float("-inf"))
        self._away_since: float | None = None
        self._reminded_at = 0.0
        self._wait_s = FIRST_WAIT_S

    def run(self, stop: Stop) -> None:
        """Steps until the wish to stop."""
        while not stop:
            stop.wait(self.step(stop))

    def step(self, stop: Stop | None = None) -> float:
        """Runs every duty that is due, once; returns the seconds until the next one is."""
        for duty in (self._heartbeat, *self._duties):
            if stop or (duty is not self._heartbeat and not self._leader.leads()):
                break
            if self._due[duty.name] <= self._monotonic() and not self._tick(duty):
                return self._wait()
        self._back()
        mine = (self._heartbeat, *self._duties) if self._leader.leads() else (self._heartbeat,)
        return max(0.0, min(self._due[duty.name] for duty in mine) - self._monotonic())

    def _tick(self, duty: Duty) -> bool:
        """False when Redis is away."""
        self._due[duty.name] = self._monotonic() + duty.interval_s
        try:
            self._counts.update(duty.tick(self._clock()))
        except Exception as error:
            self._due[duty.name] = self._monotonic() + FAILED_WAIT_S
            if is_away(error):
                self._away(error)
                return False
            logger.exception("duty failed", duty=duty.name)
        return True

    def _away(self, error: Exception) -> None:
        now = self._monotonic()
        if self._away_since is None:
            self._away_since = now
        elif now - self._reminded_at < REMIND_AFTER_S:
            return
        self._reminded_at = now
        logger.warning("waiting for Redis", error=str(error), since_s=round(now - self._away_since, 1))

    def _wait(self) -> float:
        # Asked again as soon as the wait is over, heartbeat first: the lease may have passed to another process.
        self._due = dict.fromkeys(self._due, float("-inf"))
        wait_s = self._wait_s
        self._wait_s = min(MAX_WAIT_S, self._wait_s * 2)
        return wait_s

    def _back(self) -> None:
        if self._away_since is not None:
            logger.info("Redis is back", after_s=round(self._monotonic() - self._away_since, 1))
        self._away_since = None
        self._wait_s = FIRST_WAIT_S
