"""Server-sent events that end properly, with their last chunk, when the process stops."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from web.http import PING_S
from web.operation import Parameter

LEAVE_S = 5.0
"""How long a stream may take to end by itself; sse-starlette then cuts it off."""

LAST_SEEN = Parameter("Last-Event-ID", "the last event that the client has seen", "header")


def no_more_events() -> Response:
    """What ends an EventSource: after every other end of a stream it connects anew, for ever."""
    return Response(status_code=204)


def event_stream(events: AsyncGenerator[ServerSentEvent, None]) -> EventSourceResponse:
    """The events as they come, until they end or the process stops."""
    stopping = anyio.Event()
    return EventSourceResponse(_until(stopping, events), ping=PING_S, shutdown_event=stopping, shutdown_grace_period=LEAVE_S)


async def _until(stopping: anyio.Event, events: AsyncGenerator[ServerSentEvent, None]) -> AsyncIterator[ServerSentEvent]:
    async with aclosing(events):
        stop = asyncio.ensure_future(stopping.wait())
        following = asyncio.ensure_future(anext(events, None))
        try:
            while True:
                await asyncio.wait({stop, following}, return_when=asyncio.FIRST_COMPLETED)
                event = following.result() if following.done() else None
                if event is None:
                    return
                yield event
                following = asyncio.ensure_future(anext(events, None))
        finally:
            stop.cancel()
            following.cancel()
            await asyncio.gather(stop, following, return_exceptions=True)
