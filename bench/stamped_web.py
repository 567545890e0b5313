"""The web, whose answers say how long they took inside it: from the first byte that it read to the answer's last.

What the client measures beyond that is its own time, the system's queues and the wait for a processor of either.
"""

import asyncio
import sys
import time
from typing import Any

from front import STAMP

import web.__main__ as web
from web.lane import Lane


class Stamping:
    """A transport that writes the time into the head of each answer."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_at = 0.0

    def __getattr__(self, name: str) -> Any:  # what a transport has besides
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Writes it, stamped if it begins an answer."""
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            first, _, rest = data.partition(b"\r\n")
            data = b"%b\r\n%b%.3f\r\n%b" % (first, STAMP, (time.perf_counter() - self.read_at) * 1_000, rest)
        self._transport.write(data)


class Stamped(Lane):
    """A connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.transport: Any = Stamping(transport)

    def data_received(self, data: bytes) -> None:
        self.transport.read_at = time.perf_counter()
        super().data_received(data)


if __name__ == "__main__":
    web.Lane = Stamped  # type: ignore[misc]  # the protocol that it serves with
    sys.exit(web.main())
