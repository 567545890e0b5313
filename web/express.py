"""The call that comes most often by far, one entry a request, answered without the way through the application.

ASGI costs more than the call itself: a task, an event and a coroutine for each layer of middleware. So uvicorn's protocol asks
here first. A request is taken only if nothing about it is unusual; then it is checked by the functions that middleware and
the route have too, and answered with 202 in one write. All else, and every refusal and failure, is the application's.
"""

import asyncio
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from jobs import trace
from jobs.access.scopes import Scope
from jobs.errors import InvalidField, Malformed, Refused
from jobs.mall import entries
from web.admission import Kind
from web.api_entries import ANSWERS, FAILURE, JSON, LOCATION, PATH
from web.keyring import Keyring
from web.pulse import PATIENCE_S
from web.rate_limits import Lease, name_of
from web.security import told_at_once
from web.state import State

NEEDS = frozenset({Scope.ENTRIES})
STATE = "express"
"""Its name in the state of the life span, in which uvicorn hands it to each connection."""


class Express:
    """Takes single entries; one for the process."""

    def __init__(self, here: State, keyring: Keyring | None) -> None:
        self._here = here
        self._keyring = keyring
        self._waiting: set[Taken] = set()
        self._timer: asyncio.TimerHandle | None = None

    def wants(self, cycle: RequestResponseCycle) -> "Plain | None":
        """What the head of a request says that may be taken once its body is here."""
        scope: Any = cycle.scope
        if scope["path"] != PATH or scope["method"] != "POST" or cycle.waiting_for_100_continue:
            return None
        headers = dict(scope["headers"])
        if len(headers) != len(scope["headers"]) or headers.get(b"content-type", JSON.encode()) != JSON.encode():
            return None
        client = told_at_once(headers, self._keyring, NEEDS)
        if client is None or (not client and self._here.settings.rate_limits):
            return None  # whose tokens it costs depends on what proxies have added
        try:
            self._here.admission.check(Kind.ENTRIES)
        except Refused:
            return None
        lease = self._here.rate_limits.lease(name_of("POST", PATH), client)
        return Plain(headers.get(b"traceparent", b"").decode("latin-1"), lease)

    def take(self, cycle: RequestResponseCycle, plain: "Plain", fail: Callable[[], None]) -> bool:
        """Whether the request is taken: then it will be answered, or its scope get the failure and `fail` be called."""
        here = self._here
        if len(cycle.body) > here.settings.max_body_bytes:
            return False
        try:
            entry = entries.parse(memoryview(cycle.body), settings=here.settings, zone=here.zone, now=time.time())
            if plain.lease is not None and not here.rate_limits.take_lent(plain.lease):
                return False
            here.admission.begin(Kind.ENTRIES)
        except (InvalidField, Malformed, Refused):
            return False
        taken = Taken(self, cycle, plain, fail)
        self._waiting.add(taken)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._look)
        here.coalescer.carry((entry,), taken)
        return True

    def landed(self, taken: "Taken", error: Exception | None) -> None:
        """Redis has answered it, or will not."""
        self._waiting.discard(taken)
        self._here.admission.end(Kind.ENTRIES, error)

    def _look(self) -> None:
        now = time.monotonic()
        for taken in [taken for taken in self._waiting if now - taken.since >= PATIENCE_S]:
            taken.set_exception(self._here.admission.pulse.missed(now - taken.since))
        oldest = min((taken.since for taken in self._waiting), default=now)
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_S - (now - oldest), self._look) if self._waiting else None


class Plain(NamedTuple):
    """Of the head of a request what is still needed."""

    traceparent: str
    lease: Lease | None


class Taken:
    """A request on its way to Redis; what the coalescer sees of it is like a future."""

    __slots__ = ("_cycle", "_done", "_express", "_fail", "_plain", "since")

    def __init__(self, express: Express, cycle: RequestResponseCycle, plain: Plain, fail: Callable[[], None]) -> None:
        self._express, self._cycle, self._plain, self._fail = express, cycle, plain, fail
        self._done = False
        self.since = time.monotonic()

    def done(self) -> bool:
        """Whether it was answered, or given up."""
        return self._done

    def set_result(self, fresh: list[bool]) -> None:
        """Writes the answer."""
        self._done = True
        self._express.landed(self, None)
        cycle = self._cycle
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        before, after = _answer(fresh[0])
        headers = cycle.default_headers
        if self._plain.lease is not None:
            headers = headers + [(n.lower().encode(), v.encode()) for n, v in self._plain.lease.headers(time.monotonic()).items()]
        if not cycle.keep_alive:
            headers = [*headers, (b"connection", b"close")]
        more = b"".join([b"%b: %b\r\n" % header for header in headers])
        span = trace.child_of(self._plain.traceparent).encode()
        cycle.transport.write(b"".join((before, more, b"traceparent: ", span, after)))
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def set_exception(self, error: Exception) -> None:
        """Has the application say what went wrong."""
        self._done = True
        self._express.landed(self, error)
        cycle: Any = self._cycle
        if not cycle.disconnected:
            cycle.scope[FAILURE] = error
            self._fail()


@lru_cache
def _answer(new: bool) -> tuple[bytes, bytes]:
    body = ANSWERS[new]
    head = b"content-length: %d\r\ncontent-type: %b\r\nlocation: %b\r\ncache-control: no-store\r\n" % (
        len(body),
        JSON.encode(),
        LOCATION.encode(),
    )
    return STATUS_LINE[202] + head, b"\r\n\r\n" + body
