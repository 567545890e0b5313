"""Tasks for the tests, on the allow-list of workers that are started with `RQ_CONFIG=sample_config`."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import redis

from jobs.errors import Permanent, RetryAfter, SoftTimeLimitExceeded
from jobs.queue.backoff import Backoff
from jobs.queue.hooks import Effect, Ending
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


@task(name="sample.report")
def report(folder: str) -> None:
    """Reports half, and the whole once there is a file `go`."""
    job = running_job()
    job.progress(1, 2, "half")
    while not Path(folder, "go").exists():
        time.sleep(POLL_S)
    job.progress(2, 2)


@task(name="sample.report_async")
async def report_async(folder: str) -> None:
    """The same as a coroutine, from another thread."""
    job = running_job()
    await asyncio.to_thread(job.progress, 1, 2, "half")
    while not Path(folder, "go").exists():
        await asyncio.sleep(POLL_S)
    await asyncio.to_thread(job.progress, 2, 2)


@task(name="sample.die")
def die() -> None:
    """Takes its process with it."""
    os.kill(os.getpid(), signal.SIGKILL)


def _note(folder: str, name: str) -> None:
    Path(folder, name).touch()


def not_a_task(folder: str) -> None:
    """Importable, and not on the allow-list."""
    _note(folder, "executed")


@task(name="sample.rated", rate_limit="50/s")
def rated(log: str) -> None:
    """Fifty a second over all workers; writes when it starts."""
    _log(log, f"{time.time()!r}")


@task(name="sample.few", max_concurrent=3)
def few(log: str, run_s: float) -> None:
    """Three at once over all workers; writes when and where it starts and stops."""
    _log(log, f"start {os.getpid()} {time.time()!r}")
    time.sleep(run_s)
    _log(log, f"stop {os.getpid()} {time.time()!r}")


def _log(path: str, line: str) -> None:
    """A whole line at once, whoever else writes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


@task(name="sample.collect")
def collect(*values: Any) -> list[Any]:
    """Returns what it is given."""
    return list(values)


@task(name="sample.collect_later")
async def collect_later(*values: Any) -> list[Any]:
    """The same as a coroutine."""
    await asyncio.sleep(0)
    return list(values)


@task(name="sample.need", retry=Backoff(max_attempts=1))
def need(*values: Any) -> list[Any]:
    """Fails for good unless there is a file `go` in the folder that is the last value; returns the others."""
    *others, folder = values
    if not Path(folder, "go").exists():
        raise Permanent("there is no file `go`")
    return others


@task(name="sample.single", unique=True)
def single() -> None:
    """One at a time."""


@task(name="sample.overlap", unique=True, retry=SOON)
def overlap(log: str, name: str) -> None:
    """Writes when it starts and stops, so that a test can tell whether two ran at once."""
    _log(log, f"start {name}")
    time.sleep(0.003)
    _log(log, f"stop {name}")


@task(name="sample.mind_limit", retry=Backoff(max_attempts=1), time_limit_s=20.0, soft_time_limit_s=0.2)
def mind_limit(caught: bool) -> str:
    """Meets its soft limit, and says so when it is to catch it; `except Exception` is no way to."""
    try:
        try:
            time.sleep(15)
        except Exception:  # noqa: BLE001  what many tasks do
            return "swallowed"
    except SoftTimeLimitExceeded:
        if not caught:
            raise
        return "tidied up"
    return "slept"


@task(name="sample.mind_limit_async", retry=Backoff(max_attempts=1), time_limit_s=20.0, soft_time_limit_s=0.2)
async def mind_limit_async(caught: bool) -> str:
    """The same as a coroutine, with tasks of its own under way."""
    try:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(15))
        except Exception:  # noqa: BLE001  what many tasks do
            return "swallowed"
    except SoftTimeLimitExceeded:
        if not caught:
            raise
        await asyncio.sleep(0)
        return "tidied up"
    return "slept"


@task(name="sample.block_loop", retry=Backoff(max_attempts=1), time_limit_s=0.2)
async def block_loop() -> None:
    """Never comes back to its event loop."""
    time.sleep(15)


@task(name="sample.ask_again", retry=Backoff(max_attempts=3, base_s=0.0, cap_s=0.0))
def ask_again(delay_s: float, log: str) -> int:
    """Asks once to be run again after the delay; writes when it starts."""
    _log(log, repr(time.time()))
    attempt = running_job().attempt
    if attempt == 1:
        raise RetryAfter(delay_s, "busy")
    return attempt


@task(name="sample.fail_evenly", retry=Backoff(max_attempts=3, base_s=100.0, cap_s=100.0, jitter="none"))
def fail_evenly() -> None:
    """Fails, to be tried again after a delay without jitter."""
    raise ValueError("no")


@task(name="sample.ask_elsewhere", retry=SOON)
def ask_elsewhere() -> None:
    """Asks a Redis of its own, which is not there."""
    redis.Redis.from_url("unix:///nowhere").ping()


class Broken:
    """Hooks that cannot be asked."""

    def retried(self, ending: Ending) -> list[Effect]:
        """Raises."""
        raise ZeroDivisionError

    died = retried

    def redriven(self, job_id: str, args: tuple[Any, ...], now: float) -> list[Effect]:
        """Nothing."""
        return []

    discarded = redriven


@task(name="sample.fail_hooked", hooks=Broken())
def fail_hooked() -> None:
    """Fails, and so do its hooks."""
    raise ValueError("no")
