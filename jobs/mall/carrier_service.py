"""The small carrier service: a real HTTP service to deliver to, for demos, tests and `up`.

    python -m jobs.mall.carrier_service --port 8010 --log carrier.jsonl

It books each idempotency key once and can be told to misbehave (POST /control): answer with an error,
stall before or after it acts, or act and cut the connection without an answer, as carriers do.
"""

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from jobs.mall.carrier_log import EffectLog, Shipment

STATUS = {"fail": 503, "reject": 422}
STOP_WITHIN_S = 1
"""Seconds that requests in flight get on SIGTERM; a stalled one is cut off then."""


class Control(msgspec.Struct, forbid_unknown_fields=True):
    """How to misbehave: the first `times` times (null: always), to the order or reference `only` (null: all). `used` counts."""

    mode: Literal["ok", "fail", "stall", "stall_reply", "lose_reply", "reject"] = "ok"
    times: int | None = None
    status: int | None = None
    retry_after_s: int | None = None
    delay_s: float = 1.0
    only: str | None = None
    used: int = 0

    def take(self, shipment: Shipment) -> str:
        """The behaviour for this shipment: "ok", or the mode, which is herewith used once."""
        if self.mode == "ok" or self.used == self.times or self.only not in (None, shipment.order_id, shipment.reference):
            return "ok"
        self.used += 1
        return self.mode


class LostReply(Response):
    """Announces a body and sends none: uvicorn cuts the connection (and logs that), the client gets no whole answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"1")]})


class Carrier:
    """The endpoints over one log."""

    def __init__(self, log: EffectLog) -> None:
        self.log = log
        self.control = Control()

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/shipments", self.book, methods=["POST"]),
            Route("/shipments", self.shipments),
            Route("/control", self.set_control, methods=["POST"]),
            Route("/control", self.show_control),
            Route("/healthz", self.healthz),
        ]
        return Starlette(routes=routes, exception_handlers={msgspec.DecodeError: _refuse})

    async def book(self, request: Request) -> Response:
        """POST /shipments: 201 the first time, 200 with the same tracking number on a repeat."""
        key = request.headers.get("idempotency-key")
        if not key:
            return _answer(400, {"detail": "the header Idempotency-Key is missing"})
        shipment = msgspec.json.decode(await request.body(), type=Shipment)
        control = self.control
        mode = control.take(shipment)
        if mode in STATUS:
            headers = {} if control.retry_after_s is None else {"Retry-After": str(control.retry_after_s)}
            return _answer(control.status or STATUS[mode], {"detail": f"the carrier was told to {mode}"}, headers)
        if mode == "stall":
            await asyncio.sleep(control.delay_s)
        effect, first = self.log.book(key, shipment)
        if mode == "stall_reply":
            await asyncio.sleep(control.delay_s)
        return (
            LostReply() if mode == "lose_reply" else _answer(201 if first else 200, {"tracking_number": effect.tracking_number})
        )

    async def shipments(self, request: Request) -> Response:
        """GET /shipments: every effect; with `?key=` the one of that key, if any."""
        key = request.query_params.get("key")
        found = [effect for effect in self.log.effects.values() if key in (None, effect.key)]
        return _answer(200, {"count": len(found), "shipments": found})

    async def set_control(self, request: Request) -> Response:
        """POST /control: replaces the behaviour as a whole."""
        self.control = msgspec.json.decode(await request.body(), type=Control)
        return await self.show_control(request)

    async def show_control(self, request: Request) -> Response:
        """GET /control: the behaviour now, and how often it was `used`."""
        return _answer(200, self.control)

    async def healthz(self, request: Request) -> Response:
        """GET /healthz: 200 once the log has been read."""
        return _answer(200, {"status": "ok"})


async def _refuse(request: Request, error: Exception) -> Response:
    return _answer(422, {"detail": str(error)})


def _answer(status: int, content: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def main() -> int:
    """Serves until SIGTERM or SIGINT; 1 when the log or the port cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m jobs.mall.carrier_service", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one; the line on stderr names it")
    parser.add_argument("--log", type=Path, required=True, help="JSON lines, one an effect; read back at the start")
    options = parser.parse_args()
    # uvicorn raises the signal again after its shutdown; that is a clean end, not a death by signal.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: sys.exit(0))
    try:
        log = EffectLog(options.log)
        listener = socket.create_server(("127.0.0.1", options.port))
    except (OSError, msgspec.DecodeError) as error:
        print(f"carrier with the log {options.log}: {error}", file=sys.stderr)
        return 1
    at = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"carrier: {at} with {len(log.effects)} shipments in {options.log}", file=sys.stderr, flush=True)
    config = uvicorn.Config(Carrier(log).app(), log_level="warning", timeout_graceful_shutdown=STOP_WITHIN_S)
    uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
