"""Tasks for the tests, on the allow-list of workers that are started with `RQ_CONFIG=sample_config`."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from jobs.errors import Permanent
from jobs.queue.backoff import Backoff
from jobs.queue.running import running_job
from jobs.queue.task import task

POLL_S = 0.01
SOON = Backoff(max_attempts=3, base_s=0.0, cap_s=0.0)
LATER = Backoff(max_attempts=3, base_s=100.0, cap_s=100.0)


class Unspeakable(Exception):
    """An error that cannot be turned into text."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@task(name="sample.add")
def add(a: int, b: int) -> int:
    """A small job."""
    return a + b


@task(name="sample.own", owned=True)
def own() -> None:
    """A job that belongs to a state."""


@task(name="sample.add_later")
async def add_later(a: int, b: int) -> int:
    """The same as a coroutine."""
    await asyncio.sleep(0)
    return a + b


@task(name="sample.hold", retry=SOON)
def hold(folder: str) -> int:
    """Says in the folder that it runs, and goes on until there is a file `go`; returns the attempt."""
    attempt = running_job().attempt
    _note(folder, f"started-{attempt}")
    while not Path(folder, "go").exists():
        time.sleep(POLL_S)
    _note(folder, f"done-{attempt}")
    return attempt


@task(name="sample.hold_stubbornly", retry=Backoff(max_attempts=1), time_limit_s=0.3)
def hold_stubbornly(folder: str) -> None:
    """Swallows every exception that it can, and has a time limit."""
    _note(folder, "started-1")
    try:
        while not Path(folder, "go").exists():
            time.sleep(POLL_S)
    except Exception:  # noqa: BLE001  what many tasks do
        _note(folder, "swallowed")


@task(name="sample.hold_async", retry=Backoff(max_attempts=1), time_limit_s=0.3)
async def hold_async(folder: str) -> None:
    """The same as a coroutine."""
    _note(folder, "started-1")
    try:
        await asyncio.sleep(3_600)
    except Exception:  # noqa: BLE001  what many tasks do
        _note(folder, "swallowed")


@task(name="sample.fail", retry=SOON)
def fail(reason: str) -> None:
    """Fails at every attempt, without a pause between them."""
    raise ValueError(reason)


@task(name="sample.fail_later", retry=LATER)
def fail_later(reason: str) -> None:
    """Fails at every attempt, with long pauses."""
    raise ValueError(reason)


@task(name="sample.refuse", retry=LATER)
def refuse(reason: str) -> None:
    """Fails for good."""
    raise Permanent(reason)


@task(name="sample.raise_odd", retry=Backoff(max_attempts=1))
def raise_odd(kind: str) -> None:
    """Raises what is hard to describe."""
    odd: dict[str, BaseException] = {
        "unspeakable": Unspeakable(),
        "surrogate": ValueError("caf\udce9"),
        "exit": SystemExit(3),
        "nul": ValueError("a\x00b"),
    }
    raise odd[kind]


@task(name="sample.give")
def give(kind: str) -> Any:
    """Returns what is hard or impossible to write as JSON."""
    loop: list[Any] = []
    loop.append(loop)
    odd: dict[str, Any] = {
        "object": object(),
        "surrogate": "caf\udce9",
        "huge": 2**70,
        "loop": loop,
        "none": None,
        "nested": {"a": [1, 2.5, "x"]},
    }
    return odd[kind]


@task(name="sample.die")
def die() -> None:
    """Takes its process with it."""
    os.kill(os.getpid(), signal.SIGKILL)


def _note(folder: str, name: str) -> None:
    Path(folder, name).touch()


def not_a_task(folder: str) -> None:
    """Importable, and not on the allow-list."""
    _note(folder, "executed")
