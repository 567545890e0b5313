"""The jobs of the benches that kill workers."""

import asyncio
import os
import random
import time
from pathlib import Path

from jobs.queue.running import running_job
from jobs.queue.task import task

FOLDER = Path(os.environ.get("BENCH_FOLDER", "."))
POLL_S = 0.05
BURN_S = 0.005
SHORT_S = 0.002


def _note_start() -> Path:
    """Writes `job id, process, instant` by the clock that all processes share; returns the file that ends the job."""
    job = running_job()
    file = os.open(FOLDER / "starts", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{job.id} {os.getpid()} {time.monotonic()!r}\n".encode())
    os.close(file)
    return FOLDER / f"go-{job.id}"


@task(name="observed.stay", queue="cpu")
def stay() -> int:
    """Runs until it is told to end; returns its process."""
    go = _note_start()
    while not go.exists():
        time.sleep(POLL_S)
    return os.getpid()


@task(name="observed.stay_async", queue="io")
async def stay_async() -> int:
    """The same on a loop."""
    go = _note_start()
    while not go.exists():  # noqa: ASYNC110  nobody in this process could set an event
        await asyncio.sleep(POLL_S)
    return os.getpid()


@task(name="observed.burn", queue="load", ignore_result=True)
def burn() -> None:
    """Keeps a core busy."""
    until = time.thread_time() + BURN_S
    while time.thread_time() < until:
        pass


@task(name="observed.short")
def short() -> None:
    """A short job."""
    time.sleep(random.random() * SHORT_S)


@task(name="observed.short_async")
async def short_async() -> None:
    """The same on a loop."""
    await asyncio.sleep(random.random() * SHORT_S)
