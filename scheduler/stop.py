"""How the process is told to stop: SIGTERM or SIGINT, any number of times, and it ends within a second.

Signal handlers may run between any two instructions, so nothing here takes a lock: the handler sets a flag and
wakes a pipe. What is still busy when its time is up - waiting for a Redis that does not answer - is interrupted by
an exception; every write is one script, so there is no bad moment for it.
"""

from __future__ import annotations

import os
import select
import signal
from types import FrameType


class Overdue(BaseException):
    """Raised in the main thread when stopping takes too long."""


class Stop:
    """The wish to stop. `after_s` are given to what runs before it is interrupted."""

    def __init__(self, after_s: float = 0.3) -> None:
        self._after_s = after_s
        self._wished = False
        self._installed = False
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def __bool__(self) -> bool:
        return self._wished

    def wish(self) -> None:
        """Asks to stop; also from another thread."""
        self._wished = True
        os.write(self._writing, b"x")

    def wait(self, timeout_s: float) -> None:
        """Waits, at most until the wish."""
        if not self._wished:
            select.select([self._reading], [], [], max(0.0, timeout_s))

    def install(self) -> None:
        """Handles SIGTERM and SIGINT from now on; in the main thread."""
        signal.signal(signal.SIGALRM, self._interrupt)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)
        self._installed = True

    def grant(self, seconds: float) -> None:
        """Gives what runs now so many seconds more; 0: it is not interrupted any more."""
        if self._installed:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if not self._wished:
            self.wish()
            self.grant(self._after_s)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        raise Overdue
