"""Threads that run blocking functions, in which a job can be interrupted without harm to the thread or to its next job.

CPython raises an exception in another thread between any two of its bytecodes (`PyThreadState_SetAsyncExc`). A strike is
therefore aimed only while the thread says that it runs this very job, and a job has not ended before the thread knows that no
strike is on its way. A C call is not interrupted: a thread that stays in one is given up and replaced.
"""

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jobs import log
from jobs.errors import JobInterrupted

MAX_WOKEN = 2
"""How many threads may be on their way to work. Each that finds work wakes the next: short jobs need few of a hundred."""
NOT_RETURNED = object()
_throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
_throw.argtypes = (ctypes.c_ulong, ctypes.py_object)
_NOTHING = ctypes.py_object()
logger = log.get("worker")


class ThreadPool:
    """At most `size` threads, made when there is work. `work` runs one job on its thread; False: there was none.

    `ready` says whether there is one. What is called here may be called on any thread.
    """

    def __init__(self, work: Callable[["PoolThread"], bool], ready: Callable[[], bool]) -> None:
        self.work = work
        self.ready = ready
        self.size = 0
        self.idle: list[PoolThread] = []
        self.woken: set[PoolThread] = set()
        self.hanging: set[PoolThread] = set()
        """Given up, and not come back yet."""
        self._threads: set[PoolThread] = set()
        self._lock = threading.Lock()

    def resize(self, size: int) -> None:
        """Threads above `size` end when they have no job."""
        self.size = size
        for _ in range(len(self._threads) - size):
            self._ring()

    def wake(self) -> None:
        """There is work for one thread more."""
        if len(self.woken) >= MAX_WOKEN or self._ring():
            return
        with self._lock:
            if len(self._threads) >= self.size:
                return
            made = PoolThread(self)
            self._threads.add(made)
            self.woken.add(made)
        try:
            made.start()
        except RuntimeError as error:
            self.leave(made)
            logger.error("no thread can be started", threads=len(self._threads), error=str(error))

    def give_up(self, thread: "PoolThread") -> None:
        """The thread may never come back; another one takes its place."""
        with self._lock:
            thread.given_up = True
            if thread in self._threads:  # else it has just left
                self._threads.discard(thread)
                self.hanging.add(thread)

    def leave(self, thread: "PoolThread") -> None:
        """The thread ends."""
        with self._lock:
            for among in (self._threads, self.hanging, self.woken):
                among.discard(thread)

    def is_surplus(self, thread: "PoolThread") -> bool:
        """Whether the thread is to end, being given up or one too many; it is then no longer counted."""
        if thread.given_up or len(self._threads) > self.size:
            with self._lock:
                if thread.given_up or len(self._threads) > self.size:
                    self._threads.discard(thread)
                    return True
        return False

    def _ring(self) -> bool:
        try:
            thread = self.idle.pop()
        except IndexError:
            return False
        self.woken.add(thread)
        thread.bell.release()
        return True


class PoolThread(threading.Thread):
    """One thread. It is a daemon: a process ends without those that never come back."""

    def __init__(self, pool: ThreadPool) -> None:
        super().__init__(name="job", daemon=True)
        self.bell = threading.Lock()
        self.bell.acquire()
        self.given_up = False
        self._pool = pool
        self._job: object = None
        """The job whose code runs: strikes at any other are not sent."""
        self._aiming = False
        self._struck = False

    def run(self) -> None:
        """Works until there are too many threads, or it was given up."""
        pool = self._pool
        try:
            while not pool.is_surplus(self):
                pool.woken.discard(self)
                if not pool.work(self):
                    self._rest()
        finally:
            pool.leave(self)

    def call(self, job: object, function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        """What the function returns, or `NOT_RETURNED` and what it raises; afterwards no strike hits this thread any more."""
        ended: list[Any] = [NOT_RETURNED, None]
        while True:
            try:
                self._call(job, function, ended)
                return ended[0], ended[1]
            except JobInterrupted as late:  # came while the thread was about to leave the job
                _note(ended, late)

    def strike(self, job: object, reason: JobInterrupted) -> bool:
        """Raises `reason` in the job's code, if that is what the thread runs. Called on one other thread, the engine's."""
        self._aiming = True
        try:
            if self._job is not job:
                return False
            self._struck = True
            _throw(self.ident or 0, _raised_bare(reason))
            return True
        finally:
            self._aiming = False

    def whereabouts(self) -> str:
        """The line of code at which the thread is, for the log."""
        frame = sys._current_frames().get(self.ident or 0)
        return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" if frame else ""

    def _call(self, job: object, function: Callable[[], Any], ended: list[Any]) -> None:
        try:
            if ended[0] is NOT_RETURNED and ended[1] is None:
                self._job = job
                ended[0] = function()
        except BaseException as error:  # noqa: BLE001  whatever a job raises, its thread survives
            self._job = None
            _note(ended, error)
        self._job = None
        while self._aiming:  # it may have looked before this job was over
            time.sleep(0)
        if self._struck:
            _throw(self.ident or 0, _NOTHING)
            self._struck = False

    def _rest(self) -> None:
        self._pool.idle.append(self)
        if self._pool.ready():  # it came before this thread could be woken
            try:
                self._pool.idle.remove(self)
            except ValueError:
                pass  # and somebody is ringing
            else:
                return
        self.bell.acquire()


def _note(ended: list[Any], error: BaseException) -> None:
    if ended[0] is NOT_RETURNED and ended[1] is None:
        ended[1] = error


def _raised_bare(reason: JobInterrupted) -> "ctypes.py_object[type[JobInterrupted]]":
    """A class that makes an exception like `reason` without arguments: what is raised in another thread is a class."""
    kind = type(reason)

    def __init__(self: JobInterrupted) -> None:
        vars(self).update(vars(reason))

    same = {"__init__": __init__, "__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return ctypes.py_object(type(kind.__name__, (kind,), same))
