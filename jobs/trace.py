"""W3C trace context: the trace that this code works for, through web, jobs and whatever they call.

A trace is text: a `traceparent` and, behind a blank, the `tracestate` that came with it, if any. Jobs and orders keep it so.
"""

import re
import secrets
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

TRACEPARENT = re.compile(r"00-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})")
TRACESTATE = re.compile(r"[!-~](?:[ -~]{0,510}[!-~])?")
TRACE_ID = slice(3, 35)
_current: ContextVar[str] = ContextVar("trace", default="")


def current() -> str:
    """The trace of this context; empty without one."""
    return _current.get()


def enter(trace: str) -> None:
    """From here on this context works for the trace: its log lines, the jobs it makes, its calls."""
    _current.set(trace)


@contextmanager
def within(trace: str) -> Iterator[None]:
    """A while for another trace, or with "" for none: what is made there belongs to many requests."""
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


def child_of(traceparent: str, tracestate: str = "") -> str:
    """A new span in the trace of these headers, or in a new trace when they are missing or broken."""
    found = TRACEPARENT.fullmatch(traceparent)
    if found is None:
        random = secrets.token_hex(24)
        return f"00-{random[:32]}-{random[32:]}-01"
    span = f"00-{found['trace']}-{secrets.token_hex(8)}-{found['flags']}"
    return f"{span} {tracestate}" if TRACESTATE.fullmatch(tracestate) else span


def headers(trace: str = "") -> dict[str, str]:
    """What a call to another system carries: a new span of the trace, by default this context's."""
    traceparent, _, tracestate = (trace or current()).partition(" ")
    if not traceparent:
        return {}
    parent, _, state = child_of(traceparent, tracestate).partition(" ")
    return {"traceparent": parent} | ({"tracestate": state} if state else {})


def add_trace_id(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog: each line of a trace has its id."""
    if current():
        event.setdefault("trace_id", current()[TRACE_ID])
    return event
