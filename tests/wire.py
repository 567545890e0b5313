"""A client that says on the socket exactly what the test wants to be said, and the web process that it says it to."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from processes import Process, Processes, wait_for

LIMIT_S = 30.0
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /v1/entries HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PAUSE = b"POST /v1/queues/default/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
"""A head for the body `{}`: a request that waits for Redis for up to 10 s, while writes are paused there."""
ENTRY = b'{"gate":"north","event_id":"%d"}'


@dataclass(frozen=True)
class Answer:
    """One answer; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def entry(number: int) -> bytes:
    """A whole request that counts one entry."""
    body = ENTRY % number
    return POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


class Wire:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT_S)
        self.received = b""

    def send(self, data: bytes) -> None:
        """Sends it; a server that has stopped listening is no error."""
        try:
            self.socket.sendall(data)
        except ConnectionError:
            self.received += self.rest()

    def until(self, text: bytes) -> bytes:
        """Waits until the text has come; returns all that has."""
        while text not in self.received:
            more = self.socket.recv(65_536)
            assert more, f"closed before {text!r} came, after {self.received!r}"
            self.received += more
        return self.received

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        try:
            while more := self.socket.recv(65_536):
                self.received += more
        except ConnectionResetError:
            self.received += b"(reset)"
        return self.received

    def answers(self) -> list[Answer]:
        """All answers until the server closes; each must be whole, and nothing may follow the last."""
        return list(parsed(self.rest()))


def parsed(data: bytes) -> Iterator[Answer]:
    """The answers on a connection, one after the other."""
    while data:
        head, found, data = data.partition(b"\r\n\r\n")
        assert found, f"not an answer: {head!r}"
        first, *lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        status = int(re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", first)[1])  # type: ignore[index]  # a failure is the test's
        length = int(headers.get("content-length", "0"))
        assert len(data) >= length, f"cut off: {data!r}"
        yield Answer(status, headers, data[:length])
        data = data[length:]


@contextmanager
def talking(port: int) -> Iterator[Wire]:
    """A connection that is closed at the end."""
    wire = Wire(port)
    try:
        yield wire
    finally:
        wire.socket.close()


def exchange(port: int, *data: bytes) -> list[Answer]:
    """What is answered until the server closes; between two parts of the data it waits until an answer begins."""
    with talking(port) as wire:
        for number, part in enumerate(data):
            if number:
                wire.until(b"HTTP/1.1 ")
            wire.send(part)
        return wire.answers()


def serve(processes: Processes, port: int, **environ: str) -> Process:
    """A web process on the port, ready."""
    process = processes.start("python", "-m", "web", PORT=str(port), **environ)

    def is_ready() -> bool:
        if not process.runs:
            raise AssertionError(process.output)
        try:
            return exchange(port, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))[0].status == 200
        except ConnectionError:
            return False

    wait_for(is_ready, LIMIT_S, "the web answers")
    return process
