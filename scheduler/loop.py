"""The one loop of the process: campaigns for the lease, and does each duty when its interval has passed while it leads.

Redis being away is an ordinary state: the loop asks again every second, and goes on where it was.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence

import redis

from jobs import crash_points
from jobs.connections import is_away
from jobs.queue.script import is_stale
from scheduler.duty import Duty, is_ours, logger
from scheduler.leader import LOOK_S, Leader
from scheduler.server import Server

PAUSE_S = 0.1
AWAY_WAIT_S = 1.0
HEARTBEAT_S = 1.0
ASK_S = 0.25
"""How often the server's clock is asked for."""
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
        self._server = server
        self._name = name
        self._duties = duties
        self._monotonic = monotonic
        self._leader = Leader(client, name, monotonic=monotonic)
        self._ask_at = float("-inf")
        self._beat_at = float("-inf")
        self._due = dict.fromkeys(duties, float("-inf"))
        self._counts: Counter[str] = Counter()
        self._away = False
        self._led = False

    def run(self) -> None:
        """Steps until the process is told to stop, by an exception."""
        while True:
            time.sleep(self.step())

    def step(self) -> float:
        """Does what is due, once; returns the seconds to wait."""
        try:
            self._ask()
            self._beat()
            self._do_what_is_due()
        except Exception as error:
            if is_stale(error):
                self._leader.stand_down()
                self._tell(leads=False)
                return PAUSE_S
            if not is_away(error):
                raise
            if not self._away:
                logger.warning("waiting for Redis", error=str(error))
            self._away = True
            self._ask_at = float("-inf")
            return AWAY_WAIT_S
        if self._away:
            logger.info("Redis is back")
        self._away = False
        next_at = min(self._due.values(), default=self._beat_at) if self._leader.leads() else self._beat_at
        return min(PAUSE_S, max(0.0, next_at - self._monotonic()))

    def leave(self) -> None:
        """Gives the lease back. One that cannot be, because Redis is away, runs out by itself."""
        try:
            self._leader.resign()
        except redis.exceptions.RedisError as error:
            logger.warning("lease not given back", error=str(error))

    def _ask(self) -> None:
        if self._ask_at <= self._monotonic():
            self._server.ask()
            self._ask_at = self._monotonic() + ASK_S

    def _beat(self) -> None:
        """Keeps the lease, and publishes that this process leads and what it has done: without an answer it does no duty."""
        if self._beat_at > self._monotonic():
            return
        leads = self._leader.campaign(+self._counts)
        self._tell(leads=leads)
        if leads:
            self._counts.clear()
        self._beat_at = self._monotonic() + (HEARTBEAT_S if leads else min(LOOK_S, self._leader.free_in_s))

    def _tell(self, *, leads: bool) -> None:
        if leads != self._led:
            logger.info("leads now" if leads else "leads no longer", name=self._name)
        self._led = leads

    def _do_what_is_due(self) -> None:
        for duty in self._duties:
            if self._due[duty] <= self._monotonic():
                self._beat()  # the duties before it may have taken a while
                if self._leader.leads():
                    began_at = self._monotonic()
                    self._due[duty] = began_at + self._do(duty)

    def _do(self, duty: Duty) -> float:
        """Returns how long after its beginning it is due again."""
        try:
            self._counts.update(duty.tick(self._server.now()))
        except Exception as error:
            if is_ours(error):
                raise
            logger.exception("duty failed", duty=type(duty).__name__)
            return FAILED_WAIT_S
        crash_points.reach("lead.done")
        return duty.interval_s
