"""Tasks for the tests of the CpuWorker's children: they crash, hang, grow, fork and look around."""

import asyncio
import contextlib
import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import structlog

from jobs import connections
from jobs.errors import SoftTimeLimitExceeded
from jobs.queue.backoff import Backoff
from jobs.queue.running import running_job
from jobs.queue.task import task

ONCE = Backoff(max_attempts=1)
_grown: list[bytearray] = []


@task(name="child.add")
def add(a: int, b: int) -> int:
    """A short job."""
    return a + b


@task(name="child.note")
def note(folder: str, name: str, seconds: float = 0.0) -> int:
    """Leaves a line for each run that begins, and takes its time. Returns the process."""
    with Path(folder, name).open("a") as lines:
        lines.write("begun\n")
    time.sleep(seconds)
    return os.getpid()


@task(name="child.wait")
def wait(folder: str, name: str) -> int:
    """The same until there is a file `go`."""
    with Path(folder, name).open("a") as lines:
        lines.write("begun\n")
    while not Path(folder, "go").exists():
        time.sleep(0.005)
    return os.getpid()


@task(name="child.sleep", retry=ONCE)
def sleep(seconds: float) -> None:
    """Can be interrupted at any time."""
    time.sleep(seconds)


@task(name="child.sleep_async", retry=ONCE)
async def sleep_async(seconds: float) -> None:
    """The same as a coroutine."""
    await asyncio.sleep(seconds)


@task(name="child.block_loop", retry=ONCE)
async def block_loop(seconds: float) -> None:
    """A coroutine that does not come back to its loop."""
    time.sleep(seconds)


@task(name="child.defy", retry=ONCE)
def defy(how: str) -> None:
    """Does not let itself be interrupted."""
    if how == "swallow":
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(60)
    elif how == "call into C":
        sum(range(10**12))
    elif how == "block signals":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(60)
    else:
        os.kill(os.getpid(), signal.SIGSTOP)


@task(name="child.tidy")
def tidy(seconds: float) -> str:
    """Makes use of its soft limit."""
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded as error:
        return str(error)
    return "slept"


@task(name="child.die")
def die(how: str) -> None:
    """Takes its process along."""
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


@task(name="child.exit", retry=ONCE)
def leave() -> None:
    """Ends the program, it thinks."""
    sys.exit(3)


@task(name="child.fork")
def fork() -> str:
    """Forks, and the other one does not know better than to return as well."""
    if os.fork() == 0:
        if os.fork():
            os.wait()
        return "the wrong one"
    os.wait()
    return "the right one"


@task(name="child.leave_behind")
def leave_behind() -> int:
    """Forks a process that outlives the job."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
    return pid


@task(name="child.grow")
def grow(megabytes: int) -> int:
    """Leaves memory behind."""
    _grown.append(bytearray(os.urandom(1_048_576) * megabytes))
    return os.getpid()


@task(name="child.echo")
def echo(text: str) -> str:
    """Gives back what it was given."""
    return text


@task(name="child.look")
def look() -> dict[str, Any]:
    """What the job sees around itself."""
    job, terminated = running_job(), subprocess.Popen(["sleep", "60"])
    terminated.terminate()
    return {
        "pid": os.getpid(),
        "stdin": os.read(0, 1).decode(),
        "random": random.random(),
        "job": [job.id, job.queue, job.attempt, job.worker, job.execution],
        "log": {name: value for name, value in structlog.contextvars.get_contextvars().items() if name != "left"},
        "left": structlog.contextvars.get_contextvars().get("left"),
        "bound": structlog.contextvars.bind_contextvars(left="behind") is not None,
        "files": len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0,  # noqa: PTH208
        "terminated": terminated.wait(5),
    }


@task(name="child.print")
def say(text: str, then_close: bool = False) -> None:
    """Prints and logs."""
    print(f"printed {text}")
    structlog.get_logger().info("logged", text=text)
    if then_close:
        sys.stdout.close()


@task(name="child.client")
def client() -> int:
    """The number of the connection to Redis that tasks have."""
    found: int = connections.process_client().client_id()
    return found


def encoded(value: Any) -> bytes:
    """A result as it is kept."""
    return json.dumps(value, separators=(",", ":")).encode()
