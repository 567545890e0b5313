"""W3C trace context: every request carries a `traceparent`, its own or a new one, and every answer returns it."""

import re
import secrets

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TRACEPARENT = re.compile(r"00-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})")


class Trace:
    """Puts `traceparent` into the scope, the log context and the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        traceparent = child_of(Headers(scope=scope).get("traceparent", ""))
        scope["traceparent"] = traceparent

        async def send_traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["traceparent"] = traceparent
            await send(message)

        with structlog.contextvars.bound_contextvars(trace_id=traceparent[3:35]):
            await self._app(scope, receive, send_traced)


def child_of(header: str) -> str:
    """A new span in the trace of the header, or in a new trace when the header is missing or broken."""
    found = TRACEPARENT.fullmatch(header)
    trace, flags = (found["trace"], found["flags"]) if found else (secrets.token_hex(16), "01")
    return f"00-{trace}-{secrets.token_hex(8)}-{flags}"
