"""The embedded server: a Valkey or Redis of our own on a private socket, for those who have none.

Every write is on disk before it is answered (`appendfsync always`). In the data directory:

    lock          held by the process that runs on the data, and by its server, which may live a moment longer
    run/          the socket, mode 700
    valkey-9.1/   one folder per engine and version: none reads all the others' files
"""

import contextlib
import fcntl
import hashlib
import os
import shlex
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from jobs.children import end_with_parent
from jobs.engine import Engine, find_engine
from jobs.errors import DataDirInUse, NoRedis

MAX_SOCKET_PATH = 103
ANSWER_LIMIT_S = 5.0
LOAD_LIMIT_S = 600.0
STOP_LIMIT_S = 20.0
HANDOVER_LIMIT_S = 3.0
POLL_S = 0.005
MAX_TAIL = 12
OPTIONS = "--port 0 --unixsocketperm 700 --appendonly yes --appendfsync always --save '' --maxmemory-policy noeviction"


@dataclass(slots=True)
class Server:
    """A running embedded server, and the lock that keeps others off its data."""

    url: str
    engine: Engine
    folder: Path
    process: subprocess.Popen[bytes]
    lock: TextIO

    def stop(self) -> None:
        """Stops the server and lets go of its data. A SIGKILL after the limit loses nothing that was answered."""
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.lock.close()


def start(data_dir: Path) -> Server:
    """Starts the server on this data; it ends with the calling thread. Raises DataDirInUse and NoRedis."""
    with contextlib.ExitStack() as undo:
        lock = undo.enter_context(hold(data_dir))
        engine = find_engine()
        folder = data_dir.absolute() / engine.series
        folder.mkdir(mode=0o700, exist_ok=True)
        path = _socket_path(data_dir)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        log = folder / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [engine.binary, *shlex.split(OPTIONS), "--dir", str(folder), "--unixsocket", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock.fileno(),),
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )
        server = Server(f"unix://{quote(str(path))}", engine, folder, process, lock)
        undo.callback(server.stop)
        _wait_until_ready(process, path, log)
        undo.pop_all()
    return server


def running_url(data_dir: Path) -> str:
    """The URL of the embedded server that runs on this data. Raises NoRedis."""
    path = _socket_path(data_dir)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
    except OSError:
        reason = "REDIS_URL is not set and no embedded server runs there: start `python3 -m jobs up` or set REDIS_URL"
        raise NoRedis(str(data_dir), reason) from None
    return f"unix://{quote(str(path))}"


def hold(data_dir: Path) -> TextIO:
    """Takes the data directory for this process until the returned file is closed. Raises DataDirInUse and NoRedis."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise NoRedis(str(data_dir), f"the data directory cannot be written: {error.strerror}") from error
    deadline = time.monotonic() + HANDOVER_LIMIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.seek(0)
                pid, _, since = lock.read().partition(" ")
                lock.close()
                # Empty for the moment in which a new holder writes its name.
                raise DataDirInUse(str(data_dir.absolute()), int(pid or 0), since) from None
            time.sleep(POLL_S)  # the server of a killed process may just be ending
    lock.truncate(0)
    lock.write(f"{os.getpid()} {time.strftime('%Y-%m-%d %H:%M:%S')}")
    lock.flush()
    return lock


def _socket_path(data_dir: Path) -> Path:
    """In the data directory, or in a folder of ours among the temporary files when that path is too long for a socket."""
    path = data_dir.resolve() / "run" / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir(), f"turnstile-{os.getuid()}-{digest}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise NoRedis(str(folder), "the socket's folder belongs to somebody else: set TURNSTILE_DATA_DIR to a shorter path")
    return folder / "redis.sock"


def _wait_until_ready(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    deadline = time.monotonic() + LOAD_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_LIMIT_S)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            if connection.recv(200).startswith(b"+PONG"):
                return
        time.sleep(POLL_S)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-MAX_TAIL:])
    raise NoRedis(str(path), f"the embedded server did not start; the end of {log}:\n{tail}")
