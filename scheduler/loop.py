"""The one loop of the process: campaigns for the lease, and does each duty when its interval has passed while it leads.

Redis being away is an ordinary state: the loop asks again every second, and goes on where it was.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence

import redis

from jobs import keys
from jobs.connections import is_away
from scheduler.duty import Duty, logger
from scheduler.leader import Leader
from scheduler.server import Server

PAUSE_S = 0.1
AWAY_WAIT_S = 1.0
HEARTBEAT_S = 1.0
FAILED_WAIT_S = 1.0
"""A duty that failed as a whole is not tried again sooner, lest the log fill up."""


class Loop:
    """Runs `duties` as often as they ask for it, by the server's clock; `name` is how this process is shown while it leads."""

    def __init__(
        self,
        client: redis.Redis,
        server: Server,
        name: str,
        duties: Sequence[Duty],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._server = server
        self._name = name
        self._duties = duties
        self._monotonic = monotonic
        self._leader = Leader(client, monotonic=monotonic)
        self._beat_at = float("-inf")
        self._due = dict.fromkeys(duties, float("-inf"))
        self._counts: Counter[str] = Counter()
        self._away = False

    def run(self) -> None:
        """Steps until the process is told to stop, by an exception."""
        while True:
            time.sleep(self.step())

    def step(self) -> float:
        """Does what is due, once; returns the seconds to wait."""
        try:
            self._server.ask()
            self._beat()
            self._do_what_is_due()
        except Exception as error:
            if not is_away(error):
                raise
            if not self._away:
                logger.warning("waiting for Redis", error=str(error))
            self._away = True
            return AWAY_WAIT_S
        if self._away:
            logger.info("Redis is back")
        self._away = False
        if not self._leader.leads():
            return PAUSE_S
        return min(PAUSE_S, max(0.0, min(self._due.values()) - self._monotonic()))

    def leave(self) -> None:
        """Gives the lease back. One that cannot be, because Redis is away, runs out by itself."""
        try:
            self._leader.resign()
        except redis.exceptions.RedisError as error:
            logger.warning("lease not given back", error=str(error))

    def _beat(self) -> None:
        """Keeps the lease, and publishes that this process leads and what it has done: without an answer it does no duty."""
        if self._beat_at > self._monotonic():
            return
        led, leads = self._leader.leads(), self._leader.campaign()
        if leads != led:
            logger.info("leads now" if leads else "leads no longer", name=self._name)
        if leads:
            with self._client.pipeline(transaction=True) as pipeline:
                now = repr(self._server.now())
                pipeline.hset(keys.SCHEDULER, mapping={"heartbeat_at": now, "name": self._name, "pid": os.getpid()})
                for counter, number in (+self._counts).items():
                    pipeline.hincrby(keys.SCHEDULER, counter, number)
                pipeline.execute()
            self._counts.clear()
        self._beat_at = self._monotonic() + HEARTBEAT_S

    def _do_what_is_due(self) -> None:
        waits = {}
        for duty in self._duties:
            if self._due[duty] <= self._monotonic() and self._leader.leads():
                waits[duty] = self._do(duty)
        # From one instant, so that duties which are done equally often are due in the same step.
        now = self._monotonic()
        self._due.update({duty: now + wait_s for duty, wait_s in waits.items()})

    def _do(self, duty: Duty) -> float:
        """Returns how long it is not due."""
        try:
            self._counts.update(duty.tick(self._server.now()))
        except Exception as error:
            if is_away(error):
                raise
            logger.exception("duty failed", duty=type(duty).__name__)
            return FAILED_WAIT_S
        return duty.interval_s
