"""The Redis server as this process sees it: its clock, and whether living workers have had the time to renew their leases.

Leases are stamped with the server's clock and compared with it, and between two answers this process's monotonic clock
carries it on: a wrong clock here takes no job from a living worker. After an outage all leases may have run out though
their workers live, so each worker is first given the time of one lease to come back and renew.
"""

import time
from collections.abc import Callable

import redis

from jobs.queue.clock import Clock
from scheduler.duty import logger


class Server:
    """Asked at every step of the loop, by leaders and followers alike: who begins to lead knows of an outage before."""

    def __init__(self, client: redis.Redis, lease_s: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._clock = Clock(monotonic)
        self._away = False
        self._answered_at: float | None = None
        self._renewed_at = 0.0
        self.now = self._clock.now

    def ask(self) -> None:
        """Learns the server's time. What it raises when Redis is away is the caller's."""
        was_away, self._away = self._away, True
        asked_at = self._monotonic()
        seconds, micros = self._client.time()
        server_now, answered_at = seconds + micros / 1_000_000, self._monotonic()
        if self._answered_at is None and not was_away:
            self._renewed_at = answered_at + self._lease_s - self._client.info("server")["uptime_in_seconds"]
        # A clock that was set, or a machine that slept, makes leases run out just as an outage does.
        elif was_away or max(answered_at - (self._answered_at or 0.0), server_now - self.now()) > self._lease_s / 2:
            logger.info("Redis was away: workers renew their leases before jobs are reclaimed", wait_s=self._lease_s)
            self._renewed_at = answered_at + self._lease_s
        self._clock.learn(server_now, asked_at, answered_at)
        self._away, self._answered_at = False, answered_at

    def renewed(self) -> bool:
        """Whether every living worker has had the chance to renew its leases: what has run out now is nobody's.

        Leases are renewed every second and last two at least, so an outage of less than half a lease ends none.
        """
        now, since = self._monotonic(), self._answered_at
        return not self._away and since is not None and self._renewed_at <= now <= since + self._lease_s / 2
