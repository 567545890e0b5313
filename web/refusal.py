"""What a connection is told before it is closed, when no request has reached the application."""

import random

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from web.problems import MEDIA_TYPE, TYPE, TYPES, Problem

RETRY_AFTER_S = (1, 5)
NAMES = {
    400: "malformed",
    408: "too-slow",
    414: "target-too-long",
    431: "headers-too-large",
    503: "too-many-connections",
    505: "http-version",
}


class Refusal(Exception):
    """Raised, also out of the parser's callbacks, when the connection ends here, and why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status

    def encode(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The whole answer as it goes over the wire."""
        name = NAMES[self.status]
        problem = Problem(TYPE + name, TYPES[name][1], self.status, str(self))
        body = msgspec.json.encode(problem)
        lines = [b"%b: %b\r\n" % header for header in headers]
        if self.status == 503:
            lines.append(b"retry-after: %d\r\n" % random.randint(*RETRY_AFTER_S))
        lines.append(b"cache-control: no-store\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (MEDIA_TYPE.encode(), len(body)))
        return b"".join((STATUS_LINE[self.status], *lines, b"connection: close\r\n\r\n", body))
