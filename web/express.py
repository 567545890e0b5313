"""The call that comes most often by far, one entry a request, answered without the way through the application.

ASGI costs more than the call itself: a task, an event and a coroutine for each layer of middleware. So the protocol asks here
first (web/lane.py). A request is taken only if nothing about it is unusual; then it is checked by the functions that middleware
and the route have too, and its 202 goes out in one write. All else, and every refusal, is the application's to answer.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from jobs import trace
from jobs.access.scopes import Scope as Need
from jobs.errors import InvalidField, Malformed, Refused
from jobs.mall import entries
from web.admission import Kind
from web.api_entries import ANSWERS, JSON, LOCATION, PATH
from web.keyring import Keyring
from web.problems import HANDLERS
from web.pulse import PATIENCE_S
from web.rate_limits import Lease, name_of
from web.security import told_at_once
from web.state import State
from web.trace import Trace

STATE = "express"
"""Its name in the state of the life span, which uvicorn hands to each connection."""
NEEDS = frozenset({Need.ENTRIES})
LIMIT = name_of("POST", PATH)
TYPE = JSON.encode()
Header = tuple[bytes, bytes]
HandOver = Callable[[RequestResponseCycle, ASGIApp | None], None]
"""Leaves the request to this application, or to the one that serves all others."""


class Express:
    """Takes single entries; one for the process."""

    def __init__(self, here: State, keyring: Keyring | None) -> None:
        self.here = here
        self._keyring = keyring
        self._waiting: set[Single] = set()
        self._timer: asyncio.TimerHandle | None = None

    def wants(self, cycle: RequestResponseCycle, hand_over: HandOver) -> "Single | None":
        """The request as one to `take` once its body is here; None when its head says that it is not."""
        scope: Any = cycle.scope
        if scope["path"] != PATH or scope["method"] != "POST" or cycle.waiting_for_100_continue:
            return None
        headers = dict(scope["headers"])
        if len(headers) != len(scope["headers"]) or headers.get(b"content-type", TYPE) != TYPE:
            return None
        client = told_at_once(headers, self._keyring, NEEDS)
        if client is None or (not client and self.here.settings.rate_limits):
            return None  # whose tokens it costs depends on what proxies have added
        try:
            self.here.admission.check(Kind.ENTRIES)
        except Refused:
            return None
        lease = self.here.rate_limits.lease(LIMIT, client)
        return Single(self, cycle, hand_over, headers.get(b"traceparent", b""), lease)

    def take(self, single: "Single") -> bool:
        """Whether the request, whose body is here, is taken and will be answered."""
        here, body = self.here, single.cycle.body
        if len(body) > here.settings.max_body_bytes:
            return False
        try:
            entry = entries.parse(memoryview(body), settings=here.settings, zone=here.zone, now=time.time())
            if single.lease is not None and not here.rate_limits.take_lent(single.lease):
                return False
            here.admission.begin(Kind.ENTRIES)
        except (InvalidField, Malformed, Refused):
            return False
        self._waiting.add(single)
        single.since = time.monotonic()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._look)
        here.coalescer.carry((entry,), single)
        return True

    def landed(self, single: "Single", error: Exception | None) -> None:
        """Redis has answered it, or will not."""
        self._waiting.discard(single)
        self.here.admission.end(Kind.ENTRIES, error)

    def _look(self) -> None:
        now = time.monotonic()
        for single in [single for single in self._waiting if now - single.since >= PATIENCE_S]:
            single.set_exception(self.here.admission.pulse.missed(now - single.since))
        self._timer = None
        if self._waiting:
            oldest = min(single.since for single in self._waiting)
            self._timer = asyncio.get_running_loop().call_later(oldest + PATIENCE_S - now, self._look)


class Single:
    """A request on its way to Redis. To the coalescer it is like a future."""

    __slots__ = ("_done", "_express", "_hand_over", "_traceparent", "cycle", "lease", "since")

    def __init__(
        self, express: Express, cycle: RequestResponseCycle, hand_over: HandOver, traceparent: bytes, lease: Lease | None
    ) -> None:
        self._express, self.cycle, self._hand_over = express, cycle, hand_over
        self._traceparent, self.lease = traceparent, lease
        self._done = False
        self.since = 0.0

    def done(self) -> bool:
        """Whether it was answered, or given up."""
        return self._done

    def set_result(self, fresh: list[bool]) -> None:
        """Writes the answer."""
        self._done = True
        self._express.landed(self, None)
        cycle, more = self.cycle, b""
        if cycle.disconnected or cycle.transport.is_closing():
            return
        if self.lease is not None:
            now = time.monotonic()
            more = _lines([(name.lower().encode(), value.encode()) for name, value in self.lease.headers(now).items()])
        if not cycle.keep_alive:
            more += b"connection: close\r\n"
        before, after = _answer(fresh[0], tuple(cycle.default_headers))
        span = trace.child_of(self._traceparent.decode("latin-1")).encode()
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(b"".join((before, more, b"traceparent: ", span, after)))
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def set_exception(self, error: Exception) -> None:
        """Leaves it to the handlers of errors to say what went wrong."""
        self._done = True
        self._express.landed(self, error)
        if not self.cycle.disconnected:
            self._hand_over(self.cycle, Trace(functools.partial(_tell, error)))


async def _tell(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    handler = next(HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS)
    response = await handler(Request(scope), error)
    await response(scope, receive, send)


@functools.lru_cache(maxsize=4)
def _answer(new: bool, always: tuple[Header, ...]) -> tuple[bytes, bytes]:
    """What is alike in all answers of a second: `always` holds the date."""
    body = ANSWERS[new]
    ours = (b"content-length", b"%d" % len(body)), (b"content-type", TYPE), (b"location", LOCATION.encode())
    return STATUS_LINE[202] + _lines([*always, *ours, (b"cache-control", b"no-store")]), b"\r\n\r\n" + body


def _lines(headers: Sequence[Header]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])
