"""The calls that come most often by far, one entry or one order, answered without the way through the application.

ASGI costs more than the call itself: a task, an event and a coroutine for each layer of middleware. So the protocol asks here
first (web/lane.py). A request is taken only if nothing about it is unusual; then it is checked by the functions that middleware
and the route have too, and its 202 goes out in one write. All else, and every refusal, is the application's to answer.
"""

import asyncio
import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from jobs import trace
from jobs.access.scopes import Scope as Need
from jobs.errors import InvalidField, Malformed, Refused
from web.admission import Kind
from web.keyring import Keyring
from web.problems import HANDLERS, InvalidFields
from web.pulse import PATIENCE_S
from web.rate_limits import Lease, name_of
from web.security import told_at_once
from web.state import State

STATE = "express"
"""Its name in the state of the life span, which uvicorn hands to each connection."""
TYPE = b"application/json"
Header = tuple[bytes, bytes]
HandOver = Callable[[RequestResponseCycle, ASGIApp | None], None]
"""Leaves the request to this application, or to the one that serves all others."""
UNUSUAL = (InvalidField, InvalidFields, Malformed, Refused, msgspec.DecodeError, UnicodeDecodeError)


class Express:
    """Takes the calls that it knows, by their path; one for the process."""

    def __init__(self, here: State, keyring: Keyring | None, calls: "Mapping[str, type[Call]]") -> None:
        self.here = here
        self._keyring = keyring
        self._calls = calls
        self._waiting: set[Call] = set()
        self._timer: asyncio.TimerHandle | None = None

    def wants(self, cycle: RequestResponseCycle, hand_over: HandOver) -> "Call | None":
        """The request as one to `take` once its body is here; None when its head says that it is not."""
        scope: Any = cycle.scope
        kind = self._calls.get(scope["path"])
        if kind is None or scope["method"] != "POST" or cycle.waiting_for_100_continue:
            return None
        if cycle.flow.write_paused:
            return None  # its client reads no answers: only the application waits until it does
        headers = dict(scope["headers"])
        if len(headers) != len(scope["headers"]) or headers.get(b"content-type", TYPE) != TYPE:
            return None
        client = told_at_once(headers, self._keyring, kind.needs)
        if client is None or (not client and self.here.settings.rate_limits):
            return None  # whose tokens it costs depends on what proxies have added
        try:
            self.here.admission.check(kind.kind)
        except Refused:
            return None
        return kind(self, cycle, hand_over, headers, client)

    def take(self, call: "Call") -> bool:
        """Whether the request, whose body is here, is taken and will be answered."""
        here = self.here
        if len(call.cycle.body) > here.settings.max_body_bytes:
            return False
        try:
            call.read(here)
            if call.lease is not None and not here.rate_limits.take_lent(call.lease):
                return False
            here.admission.begin(call.kind)
        except UNUSUAL:
            return False
        self._waiting.add(call)
        call.since = time.monotonic()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._look)
        call.carry(here)
        return True

    def landed(self, call: "Call", error: Exception | None) -> None:
        """Redis has answered it, or will not."""
        self._waiting.discard(call)
        self.here.admission.end(call.kind, error)

    def _look(self) -> None:
        now = time.monotonic()
        for call in [call for call in self._waiting if now - call.since >= PATIENCE_S]:
            call.set_exception(self.here.admission.pulse.missed(now - call.since))
        self._timer = None
        if self._waiting:
            oldest = min(call.since for call in self._waiting)
            self._timer = asyncio.get_running_loop().call_later(oldest + PATIENCE_S - now, self._look)


class Call(ABC):
    """A request on its way to Redis. To what gathers requests it is like a future, with a `set_result` of its kind."""

    __slots__ = ("_done", "_express", "_hand_over", "client", "cycle", "headers", "lease", "since", "trace")
    path: ClassVar[str]
    kind: ClassVar[Kind]
    needs: ClassVar[frozenset[Need]]

    def __init__(
        self, express: Express, cycle: RequestResponseCycle, hand_over: HandOver, headers: dict[bytes, bytes], client: str
    ) -> None:
        self._express, self.cycle, self._hand_over = express, cycle, hand_over
        self.headers, self.client = headers, client
        self.lease: Lease | None = express.here.rate_limits.lease(name_of("POST", self.path), client)
        self.trace = trace.child_of(self.header(b"traceparent"), self.header(b"tracestate"))
        self._done = False
        self.since = 0.0

    @abstractmethod
    def read(self, here: State) -> None:
        """Reads and checks the request. Raises one of UNUSUAL when it is the application's."""

    @abstractmethod
    def carry(self, here: State) -> None:
        """Has what was read written with what arrives at the same time."""

    def header(self, name: bytes) -> str:
        """A header as the application sees it; empty without it."""
        return self.headers.get(name, b"").decode("latin-1")

    def done(self) -> bool:
        """Whether it was answered, or given up."""
        return self._done

    def answer(self, before: bytes, after: bytes) -> None:
        """Writes a 202: `before` and `after` are what comes before and after the headers of this request."""
        self._done = True
        self._express.landed(self, None)
        cycle = self.cycle
        if cycle.disconnected or cycle.transport.is_closing():
            return
        more = _lines([(name.lower().encode(), value.encode()) for name, value in self._told().items()])
        if not cycle.keep_alive:
            more += b"connection: close\r\n"
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(b"".join((_accepted(tuple(cycle.default_headers)), before, more, b"\r\n", after)))
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def set_exception(self, error: Exception) -> None:
        """Leaves it to the handlers of errors to say what went wrong."""
        self._done = True
        self._express.landed(self, error)
        if not self.cycle.disconnected:
            self._hand_over(self.cycle, functools.partial(self._tell, error))

    async def _tell(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        handler = next(HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS)
        with trace.within(self.trace):
            response = await handler(Request(scope), error)
        response.headers.update(self._told())
        await response(scope, receive, send)

    def _told(self) -> dict[str, str]:
        """What middleware adds to an answer."""
        told = {} if self.lease is None else self.lease.headers(time.monotonic())
        told["traceparent"] = self.trace.partition(" ")[0]
        return told


@functools.lru_cache(maxsize=2)
def _accepted(always: tuple[Header, ...]) -> bytes:
    """What is alike in all answers of a second: `always` holds the date."""
    return STATUS_LINE[202] + _lines([*always, (b"content-type", TYPE), (b"cache-control", b"no-store")])


def _lines(headers: Sequence[Header]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])
