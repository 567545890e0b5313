"""The time on the Redis server, by which leases begin and end: the clocks of workers and scheduler may be wrong."""

import time
from collections.abc import Callable


class Clock:
    """The server's time as this process knows it, from the instants that its answers carry."""

    def __init__(self, local: Callable[[], float] = time.time) -> None:
        self.local = local
        self._ahead_s: float | None = None

    @property
    def ahead_s(self) -> float:
        """How much the server's clock is ahead of this machine's."""
        return self._ahead_s or 0.0

    def now(self) -> float:
        """Unix seconds on the server; this machine's own until something was learnt."""
        return self.local() + self.ahead_s

    def learn(self, server_now: float, sent_at: float, received_at: float) -> None:
        """The server read `server_now` between two readings of `local`.

        What was known is kept as far as these bounds allow: a slow answer says little, a clock that was set is seen at once.
        """
        low, high = server_now - received_at, server_now - sent_at
        known = (low + high) / 2 if self._ahead_s is None else self._ahead_s
        self._ahead_s = min(max(known, low), high)
