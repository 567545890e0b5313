"""The edge: uvicorn's httptools protocol with bounds in time, size and number for clients that are slow, broken or hostile.

A subclass, not a proxy in front: the bounds hold wherever the web process is started, and what is answered is a problem
document like every other error. Parsing, the ASGI cycle and its flow control stay uvicorn's (0.54, pinned in pyproject.toml);
added is what those leave out. No request is answered twice, out of turn or with the answer of another:
whatever is doubtful is answered once, after all that came before it, and the connection is closed.
"""

import asyncio
import math
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from jobs.settings import current
from web import gate, head
from web.gate import Gate
from web.head import MAX_HEAD_BYTES, MAX_HEADERS, MAX_TARGET_BYTES
from web.refusal import Refusal

MAX_FRAMING_BYTES = 65_536
"""What chunk sizes, chunk extensions and trailers may take beyond the length of the body itself."""
MAX_PIPELINED = 16
MIN_RATE = 4_096
"""Bytes a second that a body must bring, and an answer be read with, on the average of each `client_timeout_s`."""
LINGER_S = 2.0
"""How long to go on reading from a client that still sends: closing at once would reset the connection and lose the answer."""
STOPPING_S = 1.0
"""How long a half-sent body may still take once the process stops."""
CHECKS = 8
"""How often a connection is looked at within the shortest of its limits."""


class Lingering:
    """The transport of an answer to a request that has not arrived whole: its close waits for the client to take the answer."""

    def __init__(self, protocol: "Edge") -> None:
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        self.close = protocol.linger


class Edge(HttpToolsProtocol):
    """One connection.

    `_deadline` is when the client must have moved on; it is infinite while the client waits for us. Each of
    `_head_bytes` and `_in_body` says where in a request the parser stands; neither: between two requests.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # uvicorn's own arguments
        super().__init__(*args, **kwargs)
        settings = current()
        self._timeout_s, self._idle_s = settings.client_timeout_s, settings.keep_alive_s
        self._max_connections = settings.max_connections
        self._app, self.app = self.app, self._run
        self._gate: Gate | None = self.app_state.get(gate.STATE)
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = self._write_deadline = self._abort_at = math.inf
        self._deaf = self._lingering = self._stopping = self._in_body = self._begun = self._keeps = False
        self._fed = self._head_bytes = self._ended = self._content = self._wire = self._mark = self._unsent = self._hosts = 0
        self._working: RequestResponseCycle | None = None
        self._refusal: Refusal | None = None

    # The connection's begin and end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._deadline = self.loop.time() + self._idle_s
        self._look_again()
        if len(self.connections) > 2 * self._max_connections:
            transport.abort()
        elif len(self.connections) > self._max_connections:
            self._refuse(Refusal(503, f"this process serves at most {self._max_connections} connections at once"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.pipeline.clear()
        if self._working is not None and not self._working.response_complete:
            self._working.disconnected = True  # uvicorn tells only the request that arrived last
            self._working.message_event.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The process stops: what is in work is answered, nothing more is begun."""
        self._stopping = True
        self.pipeline.clear()
        working = self._working
        if working is None or working.response_complete:
            if not self._lingering:
                self.transport.close()
            return
        working.keep_alive = False
        if self._in_body and self.cycle is working:
            self._deadline = min(self._deadline, self.loop.time() + STOPPING_S)
        else:
            self._deaf, self._in_body, self._deadline = True, False, math.inf

    def linger(self) -> None:
        """Ends our side, then reads and drops until the client ends its own, for a while at most."""
        if not self._lingering and not self.transport.is_closing():
            self._deaf = self._lingering = True
            self._deadline = self.loop.time() + LINGER_S
            self.flow.resume_reading()
            self.transport.write_eof()

    def _refuse(self, refusal: Refusal) -> None:
        self._deaf, self._deadline = True, math.inf
        working, broken = self._working, self.cycle if self._in_body else None
        self._in_body = False
        if broken is not None and broken is working:
            started = broken.response_started
            broken.disconnected = True
            broken.message_event.set()
            if started:
                self.transport.close()
                return
        elif working is not None and not working.response_complete:
            if broken is not None:
                self.pipeline.popleft()
            self._refusal = refusal  # answered in its turn
            return
        self.transport.write(refusal.encode(self.server_state.default_headers))
        self.linger()

    # Time

    def _look_again(self) -> None:
        self._timer = self.loop.call_later(min(self._timeout_s, self._idle_s) / CHECKS, self._look)

    def _look(self) -> None:
        now = self.loop.time()
        if self.transport.is_closing():  # uvloop and asyncio wait without limit for the client to take what is left
            self._abort_at = min(self._abort_at, now + self._timeout_s)
            if now >= self._abort_at:
                self.transport.abort()
        elif now >= self._write_deadline:
            left = self.transport.get_write_buffer_size()
            if self._unsent - left < MIN_RATE * self._timeout_s:
                self.transport.abort()
            self._unsent, self._write_deadline = left, now + self._timeout_s
        elif now >= self._deadline:
            self._expire(now)
        self._look_again()

    def _expire(self, now: float) -> None:
        if self._lingering or not (self._in_body or self._head_bytes):
            self.transport.close()
        elif self._is_ours():
            self._deadline, self._mark = now + self._timeout_s, self._wire
        elif self._in_body:
            self._refuse(Refusal(408, f"the body brought less than {MIN_RATE} bytes a second for {self._timeout_s:g} s"))
        else:
            self._refuse(Refusal(408, f"the head of the request was not complete after {self._timeout_s:g} s"))

    def _is_ours(self) -> bool:
        """Whether it is not the client's fault that no more has come."""
        if self.flow.read_paused:
            return True
        if not self._in_body or self._stopping:
            return False
        return self.cycle.waiting_for_100_continue or self._wire - self._mark >= MIN_RATE * self._timeout_s

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent, self._write_deadline = self.transport.get_write_buffer_size(), self.loop.time() + self._timeout_s

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_deadline = math.inf

    # What arrives

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        ended, self._fed = self._ended, len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # what follows might be of the other protocol
            self.cycle.keep_alive = False
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, Refusal) else Refusal(400, f"not HTTP: {error}"))
            return
        if self._in_body:
            self._body_goes_on(ended)
        elif ended == self._ended:
            self._head_goes_on(self._fed)
        elif self._begun:  # behind a request that has ended; how much of the data is its head is not known
            self._head_goes_on(1)

    def _head_goes_on(self, size: int) -> None:
        if not self._head_bytes:
            self._deadline = self.loop.time() + self._timeout_s
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(head.too_large())

    def _body_goes_on(self, ended: int) -> None:
        if self.cycle.transport is self.transport:  # its first part came with the head
            self.cycle.transport = Lingering(self)  # type: ignore[assignment]  # has what the cycle calls
            self._wire = self._mark = self._content
            self._deadline = self.loop.time() + self._timeout_s
            return
        self._wire += self._fed
        if self._wire > 2 * self._content + MAX_FRAMING_BYTES:
            self._refuse(Refusal(400, "the chunks of the body have more framing than content"))

    # What the parser finds

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Refusal(400, f"at most {MAX_PIPELINED} requests may wait for an answer on one connection")
        super().on_message_begin()
        self._begun, self._hosts = True, 0

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_TARGET_BYTES:
            raise Refusal(414, f"the target of a request may have {MAX_TARGET_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer; merged into the headers it would be taken for what a proxy has checked
        if len(self.headers) >= MAX_HEADERS:
            raise Refusal(431, f"a request may have {MAX_HEADERS} headers")
        name = name.lower()
        if name == b"host":
            self._hosts += 1
            if not head.is_host(value):
                raise Refusal(400, "Host: a name or an address is needed, and at most a port")
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise Refusal(400, "Transfer-Encoding may only be chunked")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._head_bytes + self._fed > MAX_HEAD_BYTES:  # or the data held more than this head
            head.check_size(self.url, self.headers)
        version = self.parser.get_http_version()
        head.check(version, self._hosts, self.headers, self.parser.should_upgrade())
        self.expect_100_continue = self.expect_100_continue and version == "1.1"
        super().on_headers_complete()
        self._begun, self._in_body, self._head_bytes, self._content = False, True, 0, 0
        self._keeps, self.cycle.keep_alive = self.cycle.keep_alive, False  # an answer before the body's end closes

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle.response_complete:
            return
        self._content += len(body)
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        cycle = self.cycle
        self._in_body = False
        self._ended += 1
        self._deadline = math.inf
        if not cycle.response_started:
            cycle.keep_alive = self._keeps and not self._stopping
        cycle.more_body = False
        cycle.message_event.set()

    # What is answered

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        """The application. A stream that the stop has cut between two chunks gets its last chunk: its end is no accident."""
        await self._app(scope, receive, send)
        cycle: RequestResponseCycle = send.__self__
        if self._stopping and cycle.chunked_encoding and not cycle.response_complete and not cycle.disconnected:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._working = cycle
        if self._gate is not None and app is self.app and (error := self._gate.refuses(cycle.scope)) is not None:
            self.loop.call_soon(gate.shed, cycle, error)  # when the parser has seen the rest of what came with the head
        else:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._lingering or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif not self._head_bytes:
            self._deadline = self.loop.time() + self._idle_s
