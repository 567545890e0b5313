"""`python -m web`: uvicorn with our bounds. PORT, HOST and WEB_CONCURRENCY come from the environment."""

import signal
import socket
import sys

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from jobs import connections, log
from jobs.errors import TurnstileError
from jobs.settings import Settings, current
from web.app import create_app

GRACE_S = 20
KEEP_ALIVE_S = 15
BACKLOG = 2_048
MAX_HEADER_BYTES = 65_536


def make_app() -> Starlette:
    """The application of one web process; with several, each is a fresh interpreter."""
    log.configure(current(), process="web")
    return create_app(current())


def main() -> int:
    """Runs the web until a signal comes; exit code 2 for settings that cannot work, 0 after a clean stop."""
    try:
        settings = current()
        url = connections.redis_url(settings)
    except TurnstileError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    log.configure(settings, process="web")
    log.get("web").info(
        "web starts",
        url=f"http://{settings.host}:{settings.port}/",
        redis=connections.shown_url(url),
        note="" if settings.api_keys else "no API keys: everybody on this machine may do everything",
    )
    # uvicorn raises the signal again once it has stopped; a clean stop is no death by signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    _serve(settings)
    return 0


def _serve(settings: Settings) -> None:
    config = uvicorn.Config(
        "web.__main__:make_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.web_concurrency,
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        server_header=False,
    )
    listener = config.bind_socket()
    # asyncio sets this only on sockets that it made itself; without it every answer waits for a delayed ACK (40 ms).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings.web_concurrency > 1:
        Multiprocess(config, sockets=[listener]).run()
    else:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
