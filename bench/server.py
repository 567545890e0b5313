"""A Valkey or Redis of the bench's own on a free TCP port: the binary that the embedded server would take.

Without AOF by default, so that the clients are measured and not the disk; `--aof-always` has every write on disk
before it is answered, as in production.
"""

import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from os import cpu_count

import peers  # noqa: F401  finds jobs
import redis

from jobs.children import end_with_parent
from jobs.engine import find_engine

START_LIMIT_S = 10.0


class Server:
    """One server, empty at its start and deleted at its end."""

    def __init__(self, aof_always: bool) -> None:
        self.engine = find_engine()
        self.config = "appendonly yes, appendfsync always" if aof_always else "no AOF, no snapshots"
        self._folder = tempfile.mkdtemp(prefix="turnstile-bench-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{port}/0"
        options = ["--port", port, "--bind", "127.0.0.1", "--dir", self._folder, "--save", "", "--maxmemory-policy", "noeviction"]
        options += ["--appendonly", "yes" if aof_always else "no", "--appendfsync", "always"]
        self._command = [self.engine.binary, *options]
        self.client = redis.Redis.from_url(self.url)
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Linux shares the processors out by session: in ours it would share with the clients
            preexec_fn=end_with_parent(),
        )
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            try:
                self.client.ping()
                return
            except redis.exceptions.ConnectionError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    sys.exit(f"{self.engine.binary} did not start at {self.url}")
                time.sleep(0.01)

    def kill_and_start(self) -> None:
        """SIGKILL, and again on the same data."""
        self._process.kill()
        self._process.wait()
        self._start()

    def empty(self) -> None:
        """Deletes everything, at once: the memory of an asynchronous FLUSHALL is given back some time later."""
        self.client.execute_command("FLUSHALL", "SYNC")

    def stop(self) -> None:
        """Ends it and deletes its data."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def about(self) -> str:
        """Versions and configuration."""
        return f"{self.engine.name} {self.engine.version} on TCP 127.0.0.1, {self.config}; redis-py {version('redis')}"


def about(target: str) -> str:
    """What a figure means nothing without: instant, machine, versions, target and command."""
    place = f"{cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}"
    return f"{datetime.now(UTC):%F %H:%M} UTC, {place}, Python {platform.python_version()}\n{target}\npython {' '.join(sys.argv)}"
