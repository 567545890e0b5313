"""What is refused at the gate is answered by the protocol: whole, in turn, and without the application."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
import redis
from processes import wait_for
from servers import Server
from starlette.types import ASGIApp, Receive, Scope, Send
from web_site import serving
from wire import Answer, Wire

from jobs.settings import Settings
from web.app import create_app

BODY = b'{"lines":[{"sku":"A","quantity":1}]}'
HEAD = b"POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: a\r\n"
ORDER = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED = ORDER.replace(b"Host", b"traceparent: 00-%b-00f067aa0ba902b7-01\r\nHost" % TRACE.encode(), 1)
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Noted:
    """The application, and the paths that have come to it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.paths.append(scope["path"])
        await self._app(scope, receive, send)


@pytest.fixture
def site(settings: Settings, own_server: Server) -> Iterator[tuple[httpx.Client, Noted]]:
    """A site that takes no orders: its Redis is full."""
    here = replace(settings, redis_url=own_server.url)
    app = Noted(create_app(here))
    with serving(here, app) as http, redis.Redis.from_url(own_server.url) as client:
        client.config_set("maxmemory", 1)
        wait_for(lambda: "memory" in http.post("/v1/orders", content=BODY).text, 20, "orders are refused")
        app.paths.clear()
        yield http, app


def wire(http: httpx.Client) -> Wire:
    return Wire(http.base_url.port or 0)


def is_shed(answer: Answer, *, closes: bool = False) -> None:
    assert (answer.status, b'"urn:turnstile:problem:overloaded"' in answer.body) == (503, True)
    assert b'"instance":"/v1/orders"' in answer.body
    found = {name: answer.headers.get(name) for name in ("content-type", "cache-control", "connection")}
    expected = {"content-type": "application/problem+json", "cache-control": "no-store"}
    assert found == expected | {"connection": "close" if closes else None}
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["date"] and answer.headers["traceparent"]


def test_requests_one_after_the_other_are_refused_in_turn_on_one_connection(site: tuple[httpx.Client, Noted]) -> None:
    http, app = site
    connection = wire(http)
    connection.send(TRACED + ORDER + ORDER + LIVE)
    *shed, alive = connection.answers()
    for answer in shed:
        is_shed(answer)
    assert (len(shed), alive.status) == (3, 200)
    assert TRACE in shed[0].headers["traceparent"] and TRACE not in shed[1].headers["traceparent"]
    assert app.paths == ["/livez"]


def test_a_body_that_is_not_here_is_not_waited_for(site: tuple[httpx.Client, Noted]) -> None:
    http, app = site
    connection = wire(http)
    connection.send(HEAD + b"Content-Length: 100\r\n\r\n" + BODY)
    [answer] = connection.answers()
    is_shed(answer, closes=True)
    assert app.paths == []


def test_a_client_that_asks_before_it_sends_the_body_need_not_send_it(site: tuple[httpx.Client, Noted]) -> None:
    http, _app = site
    connection = wire(http)
    connection.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n")
    [answer] = connection.answers()
    is_shed(answer, closes=True)


def test_a_refused_order_may_be_sent_again_when_there_is_room(site: tuple[httpx.Client, Noted], own_server: Server) -> None:
    http, _app = site
    with redis.Redis.from_url(own_server.url) as client:
        client.config_set("maxmemory", 0)
    headers = {"Idempotency-Key": "a"}
    wait_for(lambda: http.post("/v1/orders", content=BODY, headers=headers).status_code == 202, 20, "orders are taken again")
