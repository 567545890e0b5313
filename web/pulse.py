"""Whether Redis answers: asked all the time, so that while it does not requests are refused at once."""

import asyncio
import random

import redis.asyncio
import redis.exceptions

from jobs import connections, log
from jobs.errors import RedisAway

INTERVAL_S = 0.2
PATIENCE_S = 2.0
"""How long a request waits for Redis: longer than its scripts and its disk take, shorter than a client's patience."""
RETRY_S = (1, 3)
LATE_S = 0.3
"""A timer that is later than that says that this process got no processor, and nothing about Redis."""
logger = log.get("admission")


class Pulse:
    """Asks Redis for a sign of life. What it refuses because it is full or read-only it refuses at once, and says so itself."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._away = ""
        self._closing = False

    def check(self) -> None:
        """Raises RedisAway while Redis does not answer."""
        if self._away:
            raise RedisAway(self._away, random.randint(*RETRY_S))

    def missed(self, waited_s: float) -> RedisAway:
        """Notes that a request has waited in vain; returns the error for it. The next sign of life takes it back."""
        reason = f"no answer within {PATIENCE_S:g} s"
        if waited_s < PATIENCE_S + LATE_S:
            self._turn(reason)
        return RedisAway(reason, random.randint(*RETRY_S))

    async def run(self) -> None:
        """Asks until closed. Python 3.11's wait_for, with which redis-py sends, may swallow a cancellation."""
        loop = asyncio.get_running_loop()
        while not self._closing:
            started = loop.time()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._client.ping()
                self._turn("")
            except TimeoutError:
                self.missed(loop.time() - started)
            except redis.exceptions.RedisError as error:
                self._turn(f"{type(error).__name__}: {error}" if connections.is_away(error) else "")
            await asyncio.sleep(INTERVAL_S)

    def close(self) -> None:
        """Ends the asking."""
        self._closing = True

    def _turn(self, away: str) -> None:
        if away and not self._away:
            logger.warning("Redis is away, requests are refused", reason=away)
        elif self._away and not away:
            logger.info("Redis is back")
        self._away = away
