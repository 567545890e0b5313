"""The one terminal that all processes of `up` share: every line carries the name of the process that wrote it."""

import os
import queue
import signal
import threading
from typing import BinaryIO

MAX_WAITING = 20_000
MAX_LINE = 8_192
FLUSH_LIMIT_S = 1.0
END = b""


class Output:
    """Lines on their way to a file descriptor.

    A thread of its own writes them: a terminal that is held, or a pipe that nobody reads, must not keep
    Ctrl-C from being heard. What is too much for memory meanwhile is dropped, and a line without an end is cut.
    """

    def __init__(self, descriptor: int, *, colour: bool) -> None:
        self._descriptor = descriptor
        self._format = "\x1b[36m{:<9} |\x1b[0m " if colour else "{:<9} | "
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, daemon=True)

    def start(self) -> None:
        """Begins to write what has been and will be said."""
        self._writer.start()

    def say(self, name: str, line: bytes) -> None:
        """Queues one line."""
        if self._lines.qsize() < MAX_WAITING:
            self._lines.put(self._format.format(name).encode() + line.rstrip(b"\n") + b"\n")

    def pass_on(self, name: str, stream: BinaryIO) -> None:
        """Queues every line of a process until it closes the stream."""
        while line := stream.readline(MAX_LINE):
            self.say(name, line)

    def finish(self) -> None:
        """Writes the rest, but waits only a moment for a reader."""
        if self._writer.is_alive():
            self._lines.put(END)
            self._writer.join(FLUSH_LIMIT_S)

    def _write(self) -> None:
        try:
            while line := self._lines.get():
                while line:
                    line = line[os.write(self._descriptor, line) :]
        except OSError:  # the reader is gone: there is nobody to tell
            os.kill(os.getpid(), signal.SIGTERM)
