"""The one terminal that all processes of `up` share: every line carries the name of the process that wrote it.

Writing never blocks: a terminal that is held, or a pipe that nobody reads, must not keep Ctrl-C from being heard.
"""

from __future__ import annotations

import os
import select
import time

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95)
MAX_PENDING = 1_000_000
CHUNK = 512  # the least that POSIX lets one write to a pipe without blocking once it is writable
FLUSH_LIMIT_S = 1.0


class Output:
    """Lines on their way to a file descriptor."""

    def __init__(self, descriptor: int, *, colour: bool, width: int = 9) -> None:
        self.descriptor = descriptor
        self.closed = False
        self._colour = colour
        self._width = width
        self._names: dict[str, int] = {}
        self._pending = bytearray()
        self._n_dropped = 0

    @property
    def pending(self) -> bool:
        return bool(self._pending) and not self.closed

    def say(self, name: str, text: str | bytes) -> None:
        """Queues one line; drops it, and later says so, when too much waits already."""
        if len(self._pending) > MAX_PENDING:
            self._n_dropped += 1
            return
        if self._n_dropped:
            n_dropped, self._n_dropped = self._n_dropped, 0
            self.say("up", f"{n_dropped} lines were dropped: nobody read them")
        self._pending += self._prefix(name) + (text.encode() if isinstance(text, str) else text) + b"\n"

    def write(self) -> None:
        """Writes what can be written now."""
        while self.pending and select.select([], [self.descriptor], [], 0)[1]:
            try:
                del self._pending[: os.write(self.descriptor, self._pending[:CHUNK])]
            except OSError:  # the reader is gone: there is nobody to tell
                self.closed = True

    def finish(self) -> None:
        """Writes the rest, but waits only a moment for a reader."""
        deadline = time.monotonic() + FLUSH_LIMIT_S
        while self.pending and (left := deadline - time.monotonic()) > 0:
            select.select([], [self.descriptor], [], left)
            self.write()

    def _prefix(self, name: str) -> bytes:
        text = f"{name:<{self._width}} | "
        if self._colour:
            colour = COLOURS[self._names.setdefault(name, len(self._names)) % len(COLOURS)]
            text = f"\x1b[{colour}m{text}\x1b[0m"
        return text.encode()
