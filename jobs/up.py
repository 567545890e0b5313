"""`python3 -m jobs up`: everything on one machine: Redis, the carrier, the Procfile, started so, stopped in reverse."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from jobs import embedded, procfile
from jobs.errors import InvalidField, TurnstileError
from jobs.output import Output
from jobs.procfile import Command
from jobs.settings import Settings
from jobs.supervisor import Supervisor

START_LIMIT_S = 30.0
STOP_LIMIT_S = 25.0
PROBE_TIMEOUT_S = 1.0
BAD_START = 2
LOOPBACK = "127.0.0.1"


def main(argv: list[str]) -> int:
    """Runs until Ctrl-C; 2 with a message when it cannot start."""
    parser = argparse.ArgumentParser(prog="python3 -m jobs up", description="Starts everything here; Ctrl-C stops it.")
    parser.parse_args(argv)
    root = Path(__file__).resolve().parent.parent
    try:
        return up(Settings.from_env(), os.environ, root, root / "Procfile")
    except TurnstileError as error:
        print(f"turnstile: {error}", file=sys.stderr)
        return BAD_START


def up(settings: Settings, environ: Mapping[str, str], root: Path, path: Path) -> int:
    """Starts everything in the Procfile at `path` and waits for its end; the exit code. Raises TurnstileError."""
    began = time.monotonic()
    data_dir = settings.data_dir.absolute()
    lines = procfile.parse(path.read_text(encoding="utf-8"))
    with contextlib.ExitStack() as last:
        env = _environ_of_children(environ, data_dir)
        redis, where = _provide_redis(settings, env, root, last)
        port = usable_port(settings.host, settings.port)
        env["PORT"] = str(port)
        probes = {}
        services = {}
        if "web" in lines:
            host = LOOPBACK if settings.host == "0.0.0.0" else settings.host  # noqa: S104
            probes["web"] = f"http://{f'[{host}]' if ':' in host else host}:{port}/readyz"
        if not env.get("CARRIER_URL"):
            env["CARRIER_URL"] = f"http://{LOOPBACK}:{usable_port(LOOPBACK, 0)}"
            probes["carrier"] = env["CARRIER_URL"] + "/healthz"
            services["carrier"] = _carrier(env["CARRIER_URL"], data_dir)
        processes = {name: procfile.command(line, env) for name, line in lines.items()}
        output = Output(sys.stdout.fileno(), colour=sys.stdout.isatty() and not env.get("NO_COLOR"))
        last.callback(output.finish)
        supervisor = Supervisor(output, redis=redis, start_limit_s=START_LIMIT_S, stop_limit_s=STOP_LIMIT_S)

        def announce() -> None:
            output.say("up", f"ready after {time.monotonic() - began:.1f} s")
            if "web" in probes:
                page = probes["web"].removesuffix("readyz")
                output.say("up", f"  the page   {page}")
                output.say("up", f"  API docs   {page}docs")
            if "carrier" in probes:
                output.say("up", f"  carrier    {env['CARRIER_URL']}")
            output.say("up", f"  Redis      {where}")
            output.say("up", f"  data       {data_dir}")
            output.say("up", "Ctrl-C stops; `python3 -m jobs demo` in another terminal replays a day")

        return supervisor.run(services, processes, root, env, probe=lambda: _missing(probes), announce=announce)


def usable_port(host: str, port: int) -> int:
    """The port if it is free; for 0 any free one. Raises InvalidField."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((host, port))
            return int(attempt.getsockname()[1])
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise InvalidField("PORT", f"port {port} of {host} cannot be used: {error.strerror}") from error
    raise InvalidField("PORT", f"port {port} is in use; set PORT to another one, for example PORT={usable_port(host, 0)}")


def _environ_of_children(environ: Mapping[str, str], data_dir: Path) -> dict[str, str]:
    env = dict(environ)
    env["PATH"] = str(Path(sys.executable).parent) + os.pathsep + env.get("PATH", os.defpath)
    env["TURNSTILE_DATA_DIR"] = str(data_dir)
    env["PYTHONUNBUFFERED"] = "1"
    if sys.stdout.isatty():  # the children write to pipes and cannot know
        env.setdefault("TURNSTILE_LOG_FORMAT", "console")
    return env


def _provide_redis(
    settings: Settings, env: dict[str, str], root: Path, last: contextlib.ExitStack
) -> tuple[subprocess.Popen[bytes] | None, str]:
    """The embedded server's process, if it is that, and where Redis is; sets REDIS_URL and takes the data directory."""
    if settings.redis_url is None:
        server = embedded.start(settings.data_dir)
        last.callback(server.stop)
        env["REDIS_URL"] = server.url
        return server.process, f"{server.engine} {server.version}, embedded; every write is on disk before it is answered"
    if not env.get("CARRIER_URL"):  # the carrier writes its log there
        last.callback(os.close, embedded.hold(settings.data_dir.absolute()))
    command = [sys.executable, "-m", "jobs.reachable"]
    answer = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise InvalidField("REDIS_URL", answer.stderr.strip())
    return None, answer.stdout.strip()


def _carrier(url: str, data_dir: Path) -> Command:
    log = str(data_dir / "carrier.jsonl")
    return Command(("python", "-m", "jobs.mall.carrier_service", "--port", str(urlsplit(url).port), "--log", log), {})


def _missing(probes: Mapping[str, str]) -> str:
    """What does not answer 200 yet, and what it said instead; "" when all do."""
    for name, url in probes.items():
        parts = urlsplit(url)
        try:
            with socket.create_connection((str(parts.hostname), parts.port), PROBE_TIMEOUT_S) as connection:
                connection.sendall(f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
                answer = connection.makefile("rb").readline(200).decode("latin-1").strip()
        except OSError as error:
            answer = str(error)
        if " 200" not in answer:
            return f"{name} at {url}: {answer}"
    return ""
