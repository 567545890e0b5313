"""What the jobs of every contender do, and what a contender's file says about its workers. Standard library only.

A no-op leaves a mark in a mapped file of its process, which costs a tenth of a microsecond and no system call: so it is
known from outside how many jobs have run, whatever the library keeps about it.
"""

import asyncio
import itertools
import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SIZE = 1 << 16
"""More jobs than this in one process cannot be counted."""
FOLDER = Path(os.environ.get("BENCH_FOLDER", "."))
STAMPS = FOLDER / "stamps"
SLOTS = int(os.environ.get("BENCH_SLOTS", "1"))
VARIANT = os.environ.get("BENCH_VARIANT", "")
DRAIN, SLEEPERS, LATENCY = "drain", "sleepers", "latency"
ALL = (DRAIN, SLEEPERS, LATENCY)


class Workers(NamedTuple):
    """One way to run a contender's workers."""

    command: tuple[str, ...]
    """With {bin}, {python}, {url}, {index}, {slots}; with {processes} it is started once, else that many times."""
    pending: str
    """Lua: how many jobs are not acknowledged, waiting ones included."""
    late: bool
    """Whether a job is acknowledged after it has run, so that it survives its worker."""
    scenes: tuple[str, ...] = ALL
    processes: int = 2
    """In the drain; the other two have one."""
    slots: int = 1
    """Jobs at once a process, for no-ops; sleepers have a hundred."""
    share: float = 1.0
    """Of the drain's jobs and of the sleepers: the slow ones get fewer."""
    job: str = ""
    """What is put before the names noop, nap and stamp."""
    environ: tuple[tuple[str, str], ...] = ()


class _Marks:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.put: Callable[[], None] = self._begin

    def _begin(self) -> None:
        with self.lock:
            if self.put == self._begin:
                file = os.open(FOLDER / f"marks-{os.getpid()}-{time.monotonic_ns()}", os.O_RDWR | os.O_CREAT)
                os.ftruncate(file, SIZE)
                marks, number = mmap.mmap(file, SIZE), itertools.count().__next__

                def put() -> None:
                    marks[number()] = 1

                self.put = put
        self.put()


_marks = _Marks()
os.register_at_fork(after_in_child=lambda: _marks.__init__())  # type: ignore[misc]


def noop() -> None:
    """Nothing but a mark."""
    _marks.put()


def nap(seconds: float) -> None:
    """Sleeps and leaves a mark."""
    time.sleep(seconds)
    _marks.put()


def stamp(number: int) -> None:
    """Says when it was started, on the clock that all processes of the machine share."""
    line = b"%d %.9f\n" % (number, time.monotonic())
    file = os.open(STAMPS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)
    _marks.put()


async def async_noop() -> None:
    """`noop` on a loop."""
    _marks.put()


async def async_nap(seconds: float) -> None:
    """`nap` on a loop."""
    await asyncio.sleep(seconds)
    _marks.put()


async def async_stamp(number: int) -> None:
    """`stamp` on a loop."""
    stamp(number)
