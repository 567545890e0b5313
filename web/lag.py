"""How late this process is: what has arrived meanwhile has waited that long, before anybody could look at it.

A timer that is overdue says so. It ticks only while the answer matters: from the time that `watch` was last called.
"""

import asyncio
import time

TICK_S = 0.005
WATCHED_S = 1.0


class Lag:
    """The lateness of the running event loop."""

    def __init__(self) -> None:
        self._due = self._until = 0.0
        self._ticking = False

    def late_s(self, now: float) -> float:
        """How long requests that are looked at now may have waited; 0 while nobody watches."""
        return max(0.0, now - self._due) if self._ticking else 0.0

    def watch(self) -> None:
        """Ticks for another WATCHED_S."""
        self._until = time.monotonic() + WATCHED_S
        if not self._ticking:
            self._ticking = True
            self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        self._ticking = now < self._until
        if self._ticking:
            self._due = now + TICK_S
            asyncio.get_running_loop().call_later(TICK_S, self._tick)
