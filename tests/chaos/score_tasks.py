"""The jobs of the scores."""

import ctypes
import os
import signal
import time
from pathlib import Path

from jobs.queue.running import running_job
from jobs.queue.task import task

FOLDER = Path(os.environ.get("SCORE_FOLDER", "."))
EATEN_BYTES = 100_000_000
KEPT_S = 3_600
"""Results are looked at after the run."""


def note(what: str) -> None:
    """Says that a job has begun: `<its id> <process>` on a line of the file."""
    file = os.open(FOLDER / what, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{running_job().id} {os.getpid()}\n".encode())
    os.close(file)


@task(name="score.work", result_ttl_s=KEPT_S)
def work(seconds: float) -> None:
    """A good job."""
    time.sleep(seconds)


@task(name="score.poison", result_ttl_s=KEPT_S)
def poison(way: str) -> None:
    """Ends its process: by itself, as a fault of a library does, or as the kernel does where memory has run out."""
    note("poison")
    if way == "exit":
        os._exit(1)
    if way == "fault":
        ctypes.string_at(0)
    eaten = bytearray(os.urandom(1)) * EATEN_BYTES
    if eaten:
        os.kill(os.getpid(), signal.SIGKILL)
