"""The web application on a real port, in a thread of the test's process."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import httpx
import uvicorn
from starlette.types import ASGIApp

from jobs.settings import Settings
from web.app import create_app
from web.lane import Lane


@contextlib.contextmanager
def serving(settings: Settings, app: ASGIApp | None = None) -> Iterator[httpx.Client]:
    """A client of the application with these settings, or of what a test has put around it."""
    listener = socket.create_server(("127.0.0.1", 0))
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
