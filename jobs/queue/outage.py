"""Redis is away, or refuses what a worker asks: said once, tried again in a moment, and said when it is over."""

import random
import time

import redis

from jobs import connections, log

AGAIN_S = 1.0
logger = log.get("worker")


class Outage:
    """Instants are monotonic. `until` is when Redis is to be asked again."""

    def __init__(self) -> None:
        self.until = float("-inf")
        self._since: float | None = None

    def __bool__(self) -> bool:
        return self._since is not None

    def goes_on(self, error: redis.exceptions.RedisError) -> None:
        """Redis has not done what it was asked."""
        now = time.monotonic()  # the attempt may have taken its time
        if self._since is None:
            self._since = now
            if connections.is_away(error):
                logger.warning("waiting for Redis", error=str(error))
            else:
                logger.error("Redis refuses what the worker asks, trying again", exc_info=error)
        self.until = now + AGAIN_S * (0.5 + random.random() / 2)

    def is_over(self) -> None:
        """Redis has done all that it was asked."""
        if self._since is not None:
            logger.info("Redis is back", away_s=round(time.monotonic() - self._since, 3))
            self._since = None
