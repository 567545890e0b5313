"""The small carrier service: a real HTTP service to deliver to, for demos, tests and `up`.

    python -m jobs.mall.carrier_service --port 8010 --log carrier.jsonl

It books each idempotency key once and can be told to misbehave (POST /control): answer with an
error, stall, or act and cut the connection without an answer, as carriers do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jobs.errors import TurnstileError
from jobs.mall.carrier_log import EffectLog, Shipment
from jobs.mall.orders import FieldError, field_of

MAX_STALL_S = 600.0
STOP_WITHIN_S = 1
"""Seconds that requests in flight get on SIGTERM; a stalled one is cut off then."""


class Control(msgspec.Struct, forbid_unknown_fields=True):
    """How to misbehave. `times` counts down to `ok` (null: for ever), `only` is an order id or a reference, `used` counts up."""

    mode: Literal["ok", "fail", "stall", "lose_reply", "reject"] = "ok"
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] | None = None
    retry_after_s: Annotated[int, msgspec.Meta(ge=0)] | None = None
    delay_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_STALL_S)] = 1.0
    only: str | None = None
    used: int = 0

    def take(self, shipment: Shipment) -> str:
        """The behaviour for this shipment, "ok" or a mode that is herewith used once."""
        if self.mode == "ok" or (self.only is not None and self.only not in (shipment.order_id, shipment.reference)):
            return "ok"
        mode = self.mode
        self.used += 1
        if self.times is not None:
            self.times -= 1
            if self.times == 0:
                self.mode, self.times = "ok", None
        return mode


class CuttableProtocol(HttpToolsProtocol):
    """uvicorn's protocol, findable by the client's address: ASGI has no way to drop a connection unanswered."""

    open: dict[tuple[str, int], CuttableProtocol] = {}  # noqa: RUF012  one a process, as the listening socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn 0.54
        super().connection_made(transport)
        if self.client is not None:
            self.open[self.client] = self

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            self.open.pop(self.client, None)
        super().connection_lost(exc)


class Carrier:
    """The endpoints over one log."""

    def __init__(self, log: EffectLog) -> None:
        self.log = log
        self.control = Control()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/shipments", self.book, methods=["POST"]),
                Route("/shipments", self.shipments, methods=["GET"]),
                Route("/control", self.set_control, methods=["POST"]),
                Route("/control", self.show_control, methods=["GET"]),
                Route("/healthz", self.healthz, methods=["GET"]),
            ]
        )

    async def book(self, request: Request) -> Response:
        """POST /shipments: 201 the first time, 200 with the same tracking number on a repeat."""
        body = await request.body()
        key = request.headers.get("idempotency-key", "").strip().strip('"')
        if not key:
            return _problem(400, "the header Idempotency-Key is missing", "Idempotency-Key", "required")
        try:
            shipment = msgspec.json.decode(body, type=Shipment)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _invalid(error)
        mode = self.control.take(shipment)
        control = self.control
        if mode in ("fail", "reject"):
            return _misbehaviour(mode, control)
        if mode == "stall":
            await asyncio.sleep(control.delay_s)
        effect, first = self.log.book(key, shipment)
        if mode == "lose_reply":
            await _cut(request)
        return _json(201 if first else 200, {"tracking_number": effect.tracking_number})

    async def shipments(self, request: Request) -> Response:
        """GET /shipments: how many effects there are; with `?key=` the one of that key, if any."""
        if "key" not in request.query_params:
            return _json(200, {"count": len(self.log)})
        effect = self.log.find(request.query_params["key"])
        found = [] if effect is None else [effect]
        return _json(200, {"count": len(found), "shipments": found})

    async def set_control(self, request: Request) -> Response:
        """POST /control: replaces the behaviour as a whole."""
        try:
            control = msgspec.json.decode(await request.body(), type=Control)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _invalid(error)
        if control.mode == "reject" and control.status is not None and control.status >= 500:
            return _problem(422, "a rejection is permanent: 4xx", "status", "must be 400 to 499")
        control.used = 0
        self.control = control
        return _json(200, self.control)

    async def show_control(self, request: Request) -> Response:
        """GET /control: the behaviour now, with the `times` left and how often it was `used`."""
        return _json(200, self.control)

    async def healthz(self, request: Request) -> Response:
        """GET /healthz: 200 once the log has been read."""
        return _json(200, {"status": "ok"})


async def _cut(request: Request) -> None:
    """Drops the connection; returns when it is gone, so that nothing sent later can reach the client."""
    address = request.scope["client"]
    connection = CuttableProtocol.open.get(tuple(address))
    if connection is not None:
        connection.transport.abort()
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _misbehaviour(mode: str, control: Control) -> Response:
    status = control.status or (503 if mode == "fail" else 422)
    response = _problem(status, f"the carrier was told to {mode}")
    if mode == "fail" and control.retry_after_s is not None:
        response.headers["Retry-After"] = str(control.retry_after_s)
    return response


def _invalid(error: msgspec.DecodeError | UnicodeDecodeError) -> Response:
    refused = field_of(error) if isinstance(error, msgspec.ValidationError) else FieldError("body", str(error))
    return _problem(422, str(error), refused.field, refused.reason)


def _problem(status: int, detail: str, field: str = "", reason: str = "") -> Response:
    title = "refused" if status < 500 else "failed"
    errors = [{"field": field, "reason": reason}] if field else []
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail, "errors": errors}
    return Response(msgspec.json.encode(content), status, media_type="application/problem+json")


def _json(status: int, content: object) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


async def _serve(app: Starlette, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        http=CuttableProtocol,
        log_level="warning",
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )
    await uvicorn.Server(config).serve(sockets=[listener])


def _stop(signum: int, frame: object) -> None:
    """uvicorn raises the signal again after its shutdown; that is a clean end, not a death by signal."""
    sys.exit(0)


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT; 1 when the log or the port cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m jobs.mall.carrier_service", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one; the line on stderr names it")
    parser.add_argument("--log", type=Path, required=True, help="JSON lines, one an effect; read back at the start")
    options = parser.parse_args(argv)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _stop)
    try:
        log = EffectLog(options.log)
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listener = socket.create_server((options.host, options.port), family=family, backlog=512)
        # asyncio sets this only on sockets that it made itself; without it every answer waits for a delayed ACK (40 ms).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (TurnstileError, OSError) as error:
        print(f"carrier: {error}", file=sys.stderr)
        return 1
    port = listener.getsockname()[1]
    print(f"carrier: http://{options.host}:{port} with {len(log)} shipments in {options.log}", file=sys.stderr, flush=True)
    with contextlib.closing(listener):
        asyncio.run(_serve(Carrier(log).app(), listener))
    return 0


if __name__ == "__main__":
    sys.exit(main())
