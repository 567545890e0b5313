"""Every request has a trace, its own or a new one; its log lines and its jobs belong to it, and its answer returns it."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs import trace


class Trace:
    """Enters the trace of the headers and puts `traceparent` into the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        entered = trace.child_of(headers.get("traceparent", ""), ",".join(headers.getlist("tracestate")))
        traceparent = entered.partition(" ")[0]

        async def send_traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["traceparent"] = traceparent
            await send(message)

        with trace.within(entered):
            await self._app(scope, receive, send_traced)
