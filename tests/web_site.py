"""The web application on a real port, in a thread of the test's process."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import httpx
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.settings import Settings
from web.app import create_app
from web.lane import Lane


@contextlib.contextmanager
def serving(settings: Settings, app: ASGIApp | None = None, send_buffer: int | None = None) -> Iterator[httpx.Client]:
    """A client of the application with these settings, or of what a test has put around it."""
    listener = socket.create_server(("127.0.0.1", 0))
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    config = uvicorn.Config(
        app or create_app(settings),
        http=Lane,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


TWICE = [("x-unusual", "1"), ("x-unusual", "1")]
"""A request with these headers is the application's, not the express lane's."""
DIFFERING = {"date", "traceparent", "connection"}
"""The last: whether a refusal comes before the body's end, which closes the connection, is a matter of time."""


class Counted:
    """The application, and how many requests have come to it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += scope["type"] == "http"
        await self._app(scope, receive, send)


@contextlib.contextmanager
def counted(settings: Settings, send_buffer: int | None = None) -> Iterator[tuple[httpx.Client, Counted]]:
    """A client of an application that counts."""
    app = Counted(create_app(settings))
    with serving(settings, app, send_buffer) as http:
        yield http, app


def seen(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """What has to be alike, whoever answers."""
    assert {"date", "traceparent"} <= answer.headers.keys()
    return answer.status_code, {name: value for name, value in answer.headers.items() if name not in DIFFERING}, answer.content
