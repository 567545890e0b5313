"""`python -m web`: uvicorn with our bounds. PORT, HOST and WEB_CONCURRENCY come from the environment."""

import gc
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from jobs import connections, crash_points, log
from jobs.errors import TurnstileError
from jobs.settings import Settings, current
from web.app import create_app
from web.lane import Lane

GRACE_S = 20
BACKLOG = 2_048
HUNG_S = 60
SPARE_FILES = 64
UNLIMITED_FILES = 10_240


def make_app() -> Starlette:
    """The application of one web process; with several, each is a fresh interpreter."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_stop_after, args=(parent.join,), daemon=True).start()
    log.configure(current(), process="web")
    crash_points.arm(current().crash_at)
    app = create_app(current())
    gc.collect()
    gc.freeze()  # what is imported stays: no collection walks through it again, which would stop all requests for 30 ms
    return app


class Several(Multiprocess):
    """The parent of several web processes, for which uvicorn's leaves two waits without an end in sight."""

    def keep_subprocess_alive(self) -> None:
        for process in self.processes:
            process.child_conn.close()  # as long as the parent holds this end too, a killed child looks like a busy one
        super().keep_subprocess_alive()

    def terminate_all(self) -> None:
        super().terminate_all()
        for listener in self.sockets:
            listener.close()  # or whoever connects now waits for an answer until the last child has ended


def _stop_after(wait_for_parent: Callable[[], None]) -> None:
    """An orphan would hold the port."""
    wait_for_parent()
    os.kill(os.getpid(), signal.SIGTERM)


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
        note="" if settings.asks_for_keys else "no API keys: everybody on this machine may do everything",
    )
    if _raise_file_limit() < settings.max_connections:
        log.get("web").warning(
            "too few open files allowed for TURNSTILE_MAX_CONNECTIONS", max_connections=settings.max_connections
        )
    _serve(settings)
    return 0


def _raise_file_limit() -> int:
    """Lets this process and its children open as many files as they may; returns how many connections that leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, UNLIMITED_FILES) if hard == resource.RLIM_INFINITY else hard  # macOS refuses an unlimited soft limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return (wanted - SPARE_FILES) // 2


def _serve(settings: Settings) -> None:
    config = uvicorn.Config(
        "web.__main__:make_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        http=Lane,
        ws="none",
        workers=settings.web_concurrency,
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
        timeout_worker_healthcheck=HUNG_S,
        server_header=False,
    )
    listener = config.bind_socket()
    # asyncio sets this only on sockets that it made itself; without it every answer waits for a delayed ACK (40 ms).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings.web_concurrency > 1:
        Several(config, sockets=[listener]).run()
        return
    server = uvicorn.Server(config)
    # From here on, so that no signal is lost while the application is imported; and after the stop, when uvicorn
    # raises the signal again: a clean stop is no death by signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
