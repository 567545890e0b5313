"""`python3 -m jobs up`: everything on one machine: Redis, the carrier, the Procfile, started so, stopped in reverse."""

import argparse
import contextlib
import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import redis

from jobs import connections, embedded, procfile
from jobs.engine import OLDEST
from jobs.errors import InvalidField, TurnstileError
from jobs.output import Output
from jobs.settings import Settings
from jobs.supervisor import Supervisor

PROBE_TIMEOUT_S = 1.0
BAD_START = 2
LOOPBACK = "127.0.0.1"

Redis = tuple[str, subprocess.Popen[bytes] | None, str]
"""Its URL, its process if it is the embedded one, and a word on it."""


def main(argv: list[str]) -> int:
    """Runs until Ctrl-C; 2 with a message when it cannot start."""
    argparse.ArgumentParser(prog="python3 -m jobs up", description="Starts everything here; Ctrl-C stops it.").parse_args(argv)
    root = Path(__file__).resolve().parent.parent
    try:
        return up(Settings.from_env(), os.environ, root, root / "Procfile")
    except TurnstileError as error:
        print(f"turnstile: {error}", file=sys.stderr)
        return BAD_START


def up(settings: Settings, environ: Mapping[str, str], root: Path, path: Path) -> int:
    """Starts everything in the Procfile at `path` and waits for its end; the exit code. Raises TurnstileError."""
    data_dir = settings.data_dir.absolute()
    with contextlib.ExitStack() as last:
        redis_url, server, where = _provide_redis(settings, data_dir, last)
        port = usable_port(settings.host, settings.port)
        env = {
            **environ,
            "PATH": str(Path(sys.executable).parent) + os.pathsep + environ.get("PATH", os.defpath),
            "REDIS_URL": redis_url,
            "PORT": str(port),
            "TURNSTILE_DATA_DIR": str(data_dir),
            "PYTHONUNBUFFERED": "1",
        }
        if sys.stdout.isatty():  # the processes write to pipes and cannot know
            env.setdefault("TURNSTILE_LOG_FORMAT", "console")
        services = _carrier(env, data_dir)
        processes = {name: procfile.command(line, env) for name, line in procfile.parse(path.read_text()).items()}
        host = LOOPBACK if settings.host == "0.0.0.0" else settings.host  # noqa: S104
        page = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        banner = [
            f"ready, with the data in {data_dir}",
            f"  the page   {page}",
            f"  API docs   {page}docs",
            f"  carrier    {env['CARRIER_URL']}",
            f"  Redis      {where}",
            "Ctrl-C stops; `python3 -m jobs demo` in another terminal replays a day",
        ]
        output = Output(sys.stdout.fileno(), colour=sys.stdout.isatty() and not env.get("NO_COLOR"))
        last.callback(output.finish)
        return Supervisor(output, server).run((services, processes), root, env, lambda: _answers(host, port), banner)


def usable_port(host: str, port: int) -> int:
    """The port if it is free; for 0 any free one. Raises InvalidField."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((host, port))
            return int(attempt.getsockname()[1])
    except OSError as error:
        reason = f"port {port} of {host} cannot be used: {error.strerror}; set PORT to another one, for example PORT={port + 1}"
        raise InvalidField("PORT", reason) from error


def _provide_redis(settings: Settings, data_dir: Path, last: contextlib.ExitStack) -> Redis:
    """Takes the data directory until the end."""
    if settings.redis_url is None:
        server = embedded.start(data_dir)
        last.callback(server.stop)
        word = f"{server.engine.name} {server.engine.version}, embedded; every write is on disk before it is answered"
        return server.url, server.process, word
    last.enter_context(embedded.hold(data_dir))
    url = connections.redis_url(settings)
    shown = connections.shown_url(url)
    try:
        with connections.connect(url, retries=0) as client:
            version = str(client.info("server")["redis_version"])
    except redis.exceptions.RedisError as error:
        raise InvalidField("REDIS_URL", f"{shown} cannot be reached: {error}") from error
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise InvalidField("REDIS_URL", f"{shown} is version {version}; 6.2 or newer is needed")
    return settings.redis_url, None, f"{shown} (version {version})"


def _carrier(env: dict[str, str], data_dir: Path) -> dict[str, list[str]]:
    """The small carrier service, unless CARRIER_URL names another one; sets it. Jobs in flight need it until they have ended."""
    if env.get("CARRIER_URL"):
        return {}
    port = str(usable_port(LOOPBACK, 0))
    env["CARRIER_URL"] = f"http://{LOOPBACK}:{port}"
    return {"carrier": ["python", "-m", "jobs.mall.carrier_service", "--port", port, "--log", str(data_dir / "carrier.jsonl")]}


def _answers(host: str, port: int) -> bool:
    """Tells whether the web is there and ready."""
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=PROBE_TIMEOUT_S)) as web:
        try:
            web.request("GET", "/readyz")
            return web.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
