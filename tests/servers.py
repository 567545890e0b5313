"""A private Valkey or Redis for the tests: a real process on a unix socket that can be killed and started again.

Every write is on disk before it is answered, as in production. The binary is the one that the embedded server
would take, or the one that TURNSTILE_TEST_REDIS names (conftest.py keeps it as TEST_REDIS: the product refuses
TURNSTILE_ names that it does not know).
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs.children import end_with_parent
from jobs.engine import find_engine

START_LIMIT_S = 20.0
POLL_S = 0.005


class Server:
    """One server and its data folder. `fsync` is `always`, as in production, or `everysec`."""

    def __init__(self, *, fsync: str = "always") -> None:
        self._fsync = fsync
        self.binary = os.environ.get("TEST_REDIS") or find_engine().binary
        # Not pytest's folder: a socket's path has room for about a hundred characters.
        self.folder = Path(tempfile.mkdtemp(prefix="turnstile-"))
        self.url = f"unix://{self.folder}/s"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, or starts it again on the same data, and waits until it answers."""
        self.launch()
        deadline = time.monotonic() + START_LIMIT_S
        while not self.answers():
            if not self.runs or time.monotonic() > deadline:
                raise AssertionError(f"{self.binary} did not start:\n{(self.folder / 'log').read_text()}")
            time.sleep(POLL_S)

    def launch(self, **more: str) -> None:
        """Starts its process, with more options if given (`_` for `-`), and waits for nothing."""
        options = {
            "port": "0",
            "unixsocket": f"{self.folder}/s",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "save": "",
            "maxmemory-policy": "noeviction",
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, *(word for name, value in options.items() for word in (f"--{name}", value))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent(),
                # SIGXFSZ stays ignored, as Python has it: a file that may not grow is then a failed write, like a full disk.
                restore_signals=False,
            )

    @property
    def pid(self) -> int:
        """The process that was started last."""
        if self._process is None:
            raise AssertionError("the server does not run")
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, as an outage: what it answered is on disk."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Ends it and deletes its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def answers(self) -> bool:
        """Whether it answers a PING."""
        client = redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))
        try:
            return bool(client.ping())
        except redis.exceptions.RedisError:
            return False
        finally:
            client.close()
