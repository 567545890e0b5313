"""The embedded server: a Valkey or Redis of our own on a private socket, for those who have none.

Every write is on disk before it is answered (`appendfsync always`). In the data directory:

    holder.lock   held by the process that called `start`: pid and start, for the message to a second one
    server.lock   held by the server itself, so it tells an orphaned server from a stopped one
    server.json   where the running server is, for `running_url`
    run/          the socket, mode 700
    valkey-9.1/   one folder per engine and version: none reads all the others' files
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from jobs.children import end_with_parent
from jobs.engine import find_engine
from jobs.errors import DataDirInUse, NoRedis

MAX_SOCKET_PATH = 103
START_LIMIT_S = 30.0
LOAD_LIMIT_S = 600.0
STOP_LIMIT_S = 20.0
HOLDER_LIMIT_S = 1.0
POLL_S = 0.005
LOG = "server.log"
LOG_TAIL = 12


@dataclass(slots=True)
class Server:
    """A running embedded server, and the locks that keep others off its data."""

    url: str
    engine: str
    version: str
    folder: Path
    process: subprocess.Popen[bytes]
    holder: int
    """File descriptor of the locked holder.lock; closing it lets go of the data directory."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self, limit_s: float = STOP_LIMIT_S) -> None:
        """Stops the server and lets go of its data. A SIGKILL after the limit loses nothing that was answered."""
        self.process.terminate()
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.holder >= 0:
            (self.folder.parent / "server.json").unlink(missing_ok=True)
            os.close(self.holder)
            self.holder = -1


def start(data_dir: Path) -> Server:
    """Starts the server on this data; it ends with the calling thread. Raises DataDirInUse and NoRedis."""
    data_dir = data_dir.absolute()
    holder = hold(data_dir)
    try:
        engine = find_engine()
        folder = data_dir / engine.series
        folder.mkdir(mode=0o700, exist_ok=True)
        path = _socket_folder(data_dir) / "redis.sock"
        process = _spawn(data_dir, engine.binary, folder, path)
        _wait_until_ready(process, path, folder / LOG)
    except BaseException:
        os.close(holder)
        raise
    url = f"unix://{quote(str(path))}"
    version = ".".join(map(str, engine.version))
    _write(data_dir / "server.json", {"url": url, "pid": process.pid, "engine": engine.name, "version": version})
    return Server(url, engine.name, version, folder, process, holder)


def running_url(data_dir: Path) -> str:
    """The URL of the embedded server that runs on this data. Raises NoRedis."""
    try:
        url = str(json.loads((data_dir / "server.json").read_text())["url"])
        _connect(_socket_path(url)).close()
    except (OSError, ValueError, KeyError):
        reason = "REDIS_URL is not set and no embedded server runs there: start `python3 -m jobs up` or set REDIS_URL"
        raise NoRedis(str(data_dir), reason) from None
    return url


def hold(data_dir: Path) -> int:
    """Takes the data directory for this process until the returned file descriptor is closed. Raises DataDirInUse and NoRedis."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(data_dir / "holder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NoRedis(str(data_dir), f"the data directory cannot be written: {error.strerror}") from error
    if not _try_lock(handle):
        pid, since = _holder(handle)
        os.close(handle)
        raise DataDirInUse(str(data_dir), pid, since)
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()} {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode(), 0)
    return handle


def _holder(handle: int) -> tuple[int, str]:
    """Who holds the directory, and since when: written just after it was locked, so perhaps not there yet."""
    deadline = time.monotonic() + HOLDER_LIMIT_S
    while not (text := os.pread(handle, 200, 0).decode(errors="replace")) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    pid, _, since = text.partition(" ")
    return int(pid or 0), since.strip()


def _spawn(data_dir: Path, binary: str, folder: Path, path: Path) -> subprocess.Popen[bytes]:
    lock = _lock_of_server(data_dir)
    try:
        with (folder / LOG).open("wb") as output:
            return subprocess.Popen(
                [binary, *_options(folder, path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock,),
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )
    finally:
        os.close(lock)


def _options(folder: Path, path: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "protected-mode": "yes",
        "daemonize": "no",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _lock_of_server(data_dir: Path) -> int:
    """The lock that the server inherits. Held though nobody holds the directory: an orphaned server, which is stopped first."""
    handle = os.open(data_dir / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if _try_lock(handle):
        return handle
    try:
        with _connect(_socket_path(running_url(data_dir))) as orphan:
            orphan.sendall(b"SHUTDOWN\r\n")
    except (OSError, NoRedis):
        pass  # it is stopping already, or has lost its socket: then the wait below tells
    deadline = time.monotonic() + STOP_LIMIT_S
    while time.monotonic() < deadline:
        if _try_lock(handle):
            return handle
        time.sleep(POLL_S)
    os.close(handle)
    raise NoRedis(str(data_dir), "a server that an earlier run left behind still writes there and does not stop: kill it")


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _socket_folder(data_dir: Path) -> Path:
    """`run` in the data directory, or a folder of ours among the temporary files when that path is too long for a socket."""
    folder = data_dir / "run"
    if len(os.fsencode(folder / "redis.sock")) > MAX_SOCKET_PATH:
        digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir(), f"turnstile-{os.getuid()}-{digest}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
        raise NoRedis(str(folder), "the socket's folder belongs to somebody else: set TURNSTILE_DATA_DIR to a shorter path")
    folder.chmod(0o700)
    return folder


def _socket_path(url: str) -> str:
    return unquote(url.removeprefix("unix://"))


def _connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(START_LIMIT_S)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _wait_until_ready(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    started = time.monotonic()
    limit = START_LIMIT_S
    try:
        while process.poll() is None and time.monotonic() - started < limit:
            reply = _ping(str(path))
            if reply.startswith(b"+PONG"):
                return
            if reply.startswith(b"-LOADING"):
                limit = LOAD_LIMIT_S
            time.sleep(POLL_S)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL:])
        raise NoRedis(str(path), f"the embedded server did not start; the end of {log}:\n{tail}")
    except BaseException:
        process.kill()
        process.wait()
        raise


def _ping(path: str) -> bytes:
    try:
        with _connect(path) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(200)
    except OSError:
        return b""


def _write(path: Path, content: dict[str, str | int]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content) + "\n")
    new.replace(path)
