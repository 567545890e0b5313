"""Runs jobs in long-lived forked children: one that crashes, hangs or grows hurts its own job only.

The parent runs no job's code and has one thread, so it can fork at any time. What a child has not begun can always be taken back
(channel.py), what it runs and since when stands on a board in shared memory (board.py), and one that does not obey is killed.
"""

import math
import os
import selectors
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from jobs import children, log
from jobs.errors import JobInterrupted, SoftTimeLimitExceeded, TimeLimitExceeded
from jobs.queue import forked, settling
from jobs.queue.channel import Ended
from jobs.queue.ending import Claim
from jobs.queue.forked import Doom, Forked, Job
from jobs.queue.outcome import Outcome
from jobs.queue.pace import Pace

MAX_CHUNK = 50
CHUNK_S = 0.01
CHUNK_BYTES = 1_048_576
LONG_S = 0.02
"""A job that has run this long holds up what was sent with it."""
PATIENCE_S = 5.0
"""How long a child may owe a sign of life."""
REFORK_S = 1.0
"""How long none is forked after one that died young and had done nothing, or could not be forked."""
DEATH_S = 0.02
"""How long is waited for the end of a killed child: it takes microseconds, unless a disk or much memory holds it."""
STOP_S = 1.0
logger = log.get("worker")


class CpuExecutor:
    """An Executor (executor.py) of child processes; `enforce` takes a monotonic instant.

    A child is recycled after `max_jobs` jobs or above `max_memory_mb` of resident memory; 0 stands for never. `on_fork` is
    called in every child, right after the fork.
    """

    kind = "cpu"
    clean = True

    def __init__(self, *, max_jobs: int, max_memory_mb: float, on_fork: Callable[[], object]) -> None:
        self._max_jobs = max_jobs or sys.maxsize
        self._max_bytes = max_memory_mb * 1_048_576 or math.inf
        self._on_fork = on_fork
        self._size = 0
        self._children: list[Forked] = []
        self._killed: list[Forked] = []
        """Not reaped yet."""
        self._waiting: deque[Job] = deque()
        self._ended: list[tuple[Claim, Outcome]] = []
        self._pace = Pace()
        self._fork_at = 0.0
        self._selector = selectors.DefaultSelector()

    def serve(self, engine: Callable[[], int]) -> int:
        return engine()

    def start(self, size: int) -> None:
        self.resize(size)

    def resize(self, size: int) -> None:
        self._size = size
        staying = sorted((child for child in self._children if not child.retiring), key=lambda child: len(child.jobs))
        for child in staying[: max(0, len(staying) - size)]:
            self._take_back(child)
            child.retire()
            self._watch(child)
        self._pump()

    def submit(self, claims: Sequence[Claim], failing: Sequence[float]) -> None:
        self._waiting.extend(map(Job, claims, failing))
        self._pump()

    def ended(self) -> list[tuple[Claim, Outcome]]:
        for key, events in self._selector.select(0):
            child: Forked = key.data
            if events & selectors.EVENT_WRITE:
                child.push()
                self._watch(child)
            if events & selectors.EVENT_READ:
                self._receive(child)
        self._pump()
        ended, self._ended = self._ended, []
        return ended

    def take_back(self) -> list[Claim]:
        for child in self._children:
            self._take_back(child)
        taken = [job.claim for job in self._waiting]
        self._waiting.clear()
        return taken

    def begun(self) -> dict[str, float]:
        found, now = {}, time.monotonic()
        for child in self._children:
            running, started, *_limits = child.board.running()
            found.update({job.claim.member: started if number == running else now for number, job in child.begun().items()})
        return found

    def enforce(self, now: float) -> None:
        self._killed = [child for child in self._killed if not child.is_gone()]
        for child in list(self._children):
            self._look_after(child, now)
        self._pump()

    def interrupt(self, reason: JobInterrupted, job_id: str | None = None) -> None:
        for child in self._children:
            for number, job in list(child.begun().items())[-1:]:
                if job_id in (None, job.claim.id):
                    child.interrupt(number, reason, time.monotonic())

    def abandon(self) -> list[Claim]:
        abandoned = []
        for child in list(self._children):
            self._take_back(child)
            if child.jobs:
                abandoned += [job.claim for job in self._lose(child)]
        return abandoned

    def readable(self) -> list[int]:
        # epoll and kqueue are files themselves, readable when anything happens that they wait for: room to send as well.
        return [self._selector.fileno()]

    def memory_bytes(self) -> int:
        return children.resident_bytes() + sum(
            children.resident_bytes(child.pid) or child.board.resident for child in self._children
        )

    def stop(self) -> None:
        self._size = 0
        self.take_back()
        for child in self._children:
            child.retire()
        if not _all_gone(self._children, STOP_S):
            for child in self._children:
                child.signal(signal.SIGKILL)
        _all_gone([*self._children, *self._killed], STOP_S)
        for child in self._children:
            child.close()
        self._children.clear()
        self._selector.close()

    # --- jobs -----------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Gives what waits to children that have nothing, or soon will, and sees to it that there are enough of them."""
        self._fill()
        share = math.ceil(len(self._waiting) / max(1, self._size))
        while self._waiting and (child := self._free()) is not None:
            jobs, expected_s = self._chunk(min(share, MAX_CHUNK, self._max_jobs - child.n_sent))
            child.send(jobs, short=expected_s <= CHUNK_S)
            if child.n_sent >= self._max_jobs:
                child.retire()
                self._fill()
            self._watch(child)

    def _free(self) -> Forked | None:
        """The child for the next job. A long job is sent to none that is busy, and never makes more than `size` of them busy."""
        busy = sum(1 for child in self._children if child.jobs and not (child.retiring and child.short))
        short = self._pace.expected_s(self._waiting[0].claim) <= CHUNK_S
        free = [child for child in self._children if child.open and (short if child.jobs else busy < self._size)]
        return min(free, key=lambda child: len(child.jobs), default=None)

    def _chunk(self, n: int) -> tuple[list[Job], float]:
        """The next jobs, `n` at most, and how long they will take."""
        jobs: list[Job] = []
        expected_s, n_bytes = 0.0, 0
        while self._waiting and len(jobs) < n:
            claim = self._waiting[0].claim
            with_it_s = expected_s + self._pace.expected_s(claim)
            n_bytes += len(claim.hash.get(b"data", b""))
            if jobs and (with_it_s > CHUNK_S or n_bytes > CHUNK_BYTES):
                break
            expected_s = with_it_s
            jobs.append(self._waiting.popleft())
        return jobs, expected_s

    def _take_back(self, child: Forked) -> None:
        self._waiting.extendleft(reversed(child.take_back()))

    def _receive(self, child: Forked) -> None:
        ended, closed = child.received()
        self._note(child, ended)
        if closed:
            self._bury(child)
        elif child.board.resident > self._max_bytes and not child.retiring:
            child.retire()

    def _note(self, child: Forked, ended: Iterable[Ended]) -> None:
        for end in ended:
            job = child.jobs.pop(end.number, None)
            if job is not None:  # else it was found among the unsent ones before
                child.n_ended += 1
                self._pace.learn(job.claim, end.duration_s)
                self._ended.append((job.claim, end.outcome))

    # --- children ---------------------------------------------------------------------------------

    def _fill(self) -> None:
        now = time.monotonic()
        while sum(not child.retiring for child in self._children) < self._size and now >= self._fork_at:
            try:
                child = forked.fork(now, self._close_in_child)
            except OSError as error:
                logger.warning("no child can be forked, trying again", error=str(error))
                self._fork_at = now + REFORK_S
                return
            self._children.append(child)
            self._selector.register(child.stream, selectors.EVENT_READ, child)

    def _close_in_child(self) -> None:
        self._selector.close()
        for sibling in self._children:
            sibling.close()
        self._on_fork()

    def _watch(self, child: Forked) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.pending else 0)
        if self._selector.get_key(child.stream).events != events:
            self._selector.modify(child.stream, events, child)

    def _look_after(self, child: Forked, now: float) -> None:
        if child.is_gone():
            return self._bury(child)
        number, started, limit_s, soft_limit_s = child.board.running()
        silent_s = child.silent_s(now)
        if number not in child.jobs:  # between jobs, or its outcome is on the way
            self._note(child, child.unsent())
            return self._bury(child) if silent_s > PATIENCE_S else None
        ran_s = now - started
        if ran_s > LONG_S:
            child.stalled = number
            self._take_back(child)
            self._note(child, child.unsent())
        doom = child.doom
        if doom is not None and doom.number == number:
            self._carry_out(child, doom, now)
        elif ran_s >= limit_s:
            child.interrupt(number, TimeLimitExceeded(limit_s), now)
        elif ran_s >= soft_limit_s and child.softened != number:
            child.softened = number
            child.interrupt(number, SoftTimeLimitExceeded(soft_limit_s), now)
        return None

    def _carry_out(self, child: Forked, doom: Doom, now: float) -> None:
        if now < doom.at:
            if now >= doom.again_at:
                child.insist(doom)
            return
        self._take_back(child)  # from here on it can begin no other job, which would be killed in its place
        if list(child.begun())[-1:] == [doom.number]:
            for claim, failing in self._lose(child):
                self._ended.append((claim, settling.failed(claim, doom.reason, time.time(), failing=failing)))

    def _bury(self, child: Forked) -> None:
        """The child has died, or is of no use any more."""
        young = not child.n_ended and time.monotonic() - child.born < REFORK_S
        crashed = self._lose(child)
        if young and not crashed and not child.retiring:
            self._fork_at = time.monotonic() + REFORK_S
        if crashed or not child.retiring:
            status = None if child.status is None else os.waitstatus_to_exitcode(child.status)
            logger.warning("a child of the worker has died", pid=child.pid, status=status, jobs=[job.claim.id for job in crashed])
        now = time.time()
        self._ended += [(claim, Outcome("crashed", claim.text(b"task"), now)) for claim, _failing in crashed]

    def _lose(self, child: Forked) -> list[Job]:
        """Ends a child by force. What it had ended counts, what it had not begun waits again; returns what it ran."""
        child.signal(signal.SIGKILL)
        if not _all_gone([child], DEATH_S):
            self._killed.append(child)
        self._note(child, child.received(sys.maxsize)[0])
        self._note(child, child.unsent())
        self._take_back(child)
        self._children.remove(child)
        self._selector.unregister(child.stream)
        child.close()
        return list(child.jobs.values())


def _all_gone(processes: Sequence[Forked], within_s: float) -> bool:
    """Waits for their ends, and reaps them."""
    deadline = time.monotonic() + within_s
    while [child for child in processes if not child.is_gone()]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True
