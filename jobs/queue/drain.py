"""How a worker stops: the first signal lets what runs go on for a while, the third or SIGQUIT ends it now.

Platforms send SIGTERM to every process of a group, several times, and SIGKILL half a minute after the first. So there is a
time for jobs to end by themselves, a moment for those that are interrupted, and then what is left is ended by force; all of
it goes back to its queue.
"""

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable
from typing import Any

MOMENT_S = 1.5
"""For jobs that were interrupted to tidy up."""
GIVE_UP_S = 3.0
"""After the drain: for the last writes when Redis is away. What is unwritten then is reclaimed."""
SIGNALS_TO_FORCE = 3
NEVER = float("inf")


class Drain:
    """The state of stopping, woken by a descriptor. Signals come on the main thread, between any two lines: each way to ask for
    the end only ever sets an instant of its own, and what has been done about it is noted by the thread that does it.
    """

    def __init__(self, within_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._within_s, self._monotonic = within_s, monotonic
        self._signals = itertools.count(1)
        self._asked = self._forced = NEVER
        self._interrupted = self._abandoned = False
        self.signalled = False
        """Whether it was a signal that asked, and not a command."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def install(self) -> None:
        """Makes the signals of platforms and terminals begin the drain; on the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGQUIT, self._on_quit)

    def begin(self) -> None:
        """No job is begun any more; those that run have the time that was configured."""
        self._asked = min(self._asked, self._monotonic() + self._within_s)
        self._wake()

    def force(self) -> None:
        """Those that run have no time any more."""
        self._forced = min(self._forced, self._monotonic())
        self._wake()

    @property
    def asked(self) -> bool:
        """Whether the worker is to stop."""
        return self._deadline < NEVER

    def interrupts(self, now: float) -> bool:
        """Whether what runs is to be interrupted now; says so once."""
        due = not self._interrupted and now >= self._deadline
        self._interrupted |= due
        return due

    def abandons(self, now: float) -> bool:
        """Whether what still runs is to be ended by force now; says so once."""
        due = not self._abandoned and now >= self._deadline + MOMENT_S
        self._abandoned |= due
        return due

    def gives_up(self, now: float) -> bool:
        """Whether the worker is to go, whatever is unwritten."""
        return now >= self._deadline + GIVE_UP_S

    def next_at(self) -> float:
        """When one of these changes (monotonic)."""
        return self._deadline + (GIVE_UP_S if self._abandoned else MOMENT_S if self._interrupted else 0.0)

    def fileno(self) -> int:
        """Readable when the drain has begun."""
        return self._reader

    def clear(self) -> None:
        """Takes note of what made `fileno` readable."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 64)

    @property
    def _deadline(self) -> float:
        return min(self._asked, self._forced)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is woken already
            os.write(self._writer, b"!")

    def _on_stop(self, _number: int, _frame: Any) -> None:
        self.signalled = True
        if next(self._signals) >= SIGNALS_TO_FORCE:
            self.force()
        else:
            self.begin()

    def _on_quit(self, _number: int, _frame: Any) -> None:
        self.signalled = True
        self.force()
