"""Which jobs of an IoWorker wait and which run, and the queue of those that have ended.

Jobs wait in two lines, for the loop and for threads, and share the slots. Each side takes its own jobs; of the last free slot
the older job has the right, so that neither side starves.
"""

import asyncio
import contextlib
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from jobs.errors import JobInterrupted
from jobs.queue.coroutines import Interruptible
from jobs.queue.ending import Claim
from jobs.queue.execution import Execution
from jobs.queue.outcome import Outcome
from jobs.queue.thread_pool import PoolThread

MANY = 4_096
Soon = Callable[[Callable[[], None]], object]
"""Has a function called in a moment, on this thread."""


@dataclass(eq=False)
class Run:
    """A job in hand. Instants are monotonic, infinite when there is none; `number` says how old it is among all."""

    execution: Execution
    failing: float
    number: int
    started: float = math.inf
    soft_deadline: float = math.inf
    deadline: float = math.inf
    last_deadline: float = math.inf
    """When the job is given up: it was interrupted at its deadline and has not ended."""
    interrupted: float = math.inf
    early: JobInterrupted | None = None
    """The last interruption: read by a job that had begun, but not far enough to be interrupted."""
    coroutine: Interruptible | None = None
    thread: PoolThread | None = None
    task: "asyncio.Task[None] | None" = None
    """Held: the loop itself holds no task."""

    @cached_property
    def member(self) -> str:
        """The job's entry in rq:wip."""
        return self.execution.claim.member

    def begin(self) -> None:
        """Its limits count from now."""
        self.started = time.monotonic()
        self.soft_deadline = self.started + self.execution.soft_time_limit_s
        self.deadline = self.started + self.execution.time_limit_s


class Slots:
    """`size` jobs run at once. A job ends once: whoever takes it out of `running` says how."""

    def __init__(self) -> None:
        self.size = 0
        self.running: dict[str, Run] = {}
        self._for_loop: deque[Run] = deque()
        self._for_threads: deque[Run] = deque()
        self._lock = threading.Lock()
        self._ended: deque[tuple[Claim, Outcome]] = deque()
        self.readable, self._wake = os.pipe()
        self._woken = False
        for end in (self.readable, self._wake):
            os.set_blocking(end, False)
            weakref.finalize(self, os.close, end)  # not before: a thread that comes back late may still ring

    def put(self, run: Run, *, on_loop: bool) -> None:
        """The job waits for a slot."""
        (self._for_loop if on_loop else self._for_threads).append(run)

    def ready(self, *, on_loop: bool) -> bool:
        """Whether that side may take a job."""
        mine, others = (self._for_loop, self._for_threads) if on_loop else (self._for_threads, self._for_loop)
        free = self.size - len(self.running)
        try:
            return free > 0 and bool(mine) and (free > 1 or not others or mine[0].number < others[0].number)
        except IndexError:  # taken just now on another thread, which looks again when it is done
            return False

    def take(self, *, on_loop: bool) -> Run | None:
        """The next job of that side, which begins now."""
        mine = self._for_loop if on_loop else self._for_threads
        if not mine:
            return None
        with self._lock:
            if not self.ready(on_loop=on_loop):
                return None
            run = mine.popleft()
            run.begin()
            self.running[run.member] = run
        return run

    def take_back(self) -> list[Claim]:
        """All that wait, the oldest first."""
        with self._lock:
            runs = sorted((*self._for_loop, *self._for_threads), key=lambda run: run.number)
            self._for_loop.clear()
            self._for_threads.clear()
        return [run.execution.claim for run in runs]

    def remove(self, run: Run) -> bool:
        """Whether the caller is the one who ends the job."""
        return self.running.pop(run.member, None) is not None

    def say_ended(self, claim: Claim, outcome: Outcome, soon: Soon | None = None) -> None:
        """For `ended`; wakes whoever waits for `readable`. `soon` does so a little later: once for all that end until then."""
        self._ended.append((claim, outcome))
        if self._woken:
            return
        self._woken = True
        if soon is None:
            self._ring()
        else:
            soon(self._ring)

    def ended(self) -> list[tuple[Claim, Outcome]]:
        """What has ended since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.readable, MANY)
        self._woken = False  # before the look: what comes later wakes again
        return [self._ended.popleft() for _ in range(len(self._ended))]

    def _ring(self) -> None:
        os.write(self._wake, b"!")
