"""The web process of a bench, and connections to it without an HTTP library, so that the client is not what is measured."""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import processes
from peers import ENVIRON

START_S = 60.0
STAMP = b"server-timing: web;dur="
"""With which an answer says how many milliseconds it took inside the web (stamped_web.py)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, head in lower case, body."""

    status: int
    head: bytes
    body: bytes


class Connection:
    """One keep-alive connection; a new one after the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, key: str, media_type: str = "application/json") -> Answer:
        """Raises OSError or asyncio.IncompleteReadError when the connection breaks."""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media_type}\r\nIdempotency-Key: {key}\r\n"
        return await self._exchange(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def get(self, path: str) -> Answer:
        """The answer to a GET."""
        return await self._exchange(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    async def _exchange(self, request: bytes) -> Answer:
        if self._streams is not None and self._streams[0].at_eof():  # the server has closed it, since it was idle
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            start = head.index(b"content-length:") + 15
            body = await reader.readexactly(int(head[start : head.index(b"\r", start)]))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            raise
        if b"\r\nconnection: close" in head:
            self.close()
        return Answer(int(head[9:12]), head, body)

    def close(self) -> None:
        """Ends it."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def order() -> bytes:
    """The body of an order of five lines."""
    rows = [{"sku": f"bench-{number}", "quantity": 1, "unit_price": "2.55"} for number in range(5)]
    return json.dumps({"country": "United Kingdom", "lines": rows}).encode()


@contextmanager
def running(redis_url: str, *arguments: str, **settings: str) -> Iterator[tuple[Popen[bytes], Path]]:
    """A Python process and its log."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        started = processes.start(
            [sys.executable, *arguments], {**os.environ, **ENVIRON, "REDIS_URL": redis_url, **settings}, log
        )
        try:
            yield started, log
        finally:
            processes.send([started], signal.SIGKILL)
            started.wait()


@contextmanager
def serving(redis_url: str, *arguments: str, **settings: str) -> Iterator[int]:
    """A Python process that serves PORT, which stands for {PORT} in its arguments, the web if no other is named; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [argument.replace("{PORT}", str(port)) for argument in arguments or ("-m", "web")]
    with running(redis_url, *command, PORT=str(port), **settings) as (process, log):
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    sys.exit(f"{process.args} does not answer:\n{log.read_text()[-2_000:]}")
                time.sleep(0.05)
        yield port
