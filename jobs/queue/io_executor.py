"""Runs up to hundreds of jobs at once in one process: `async def` tasks on one loop, blocking functions on threads.

The loop runs on the main thread, the engine on one of its own, which no job can block. The loop is the same for all jobs, so that
a client which a task keeps is reused; what a job leaves running on it is not ended with the job. A side that ends a job takes
the next one itself. Whoever interrupts: code that awaits is interrupted at its await, code that blocks the loop by a signal, a
thread between two bytecodes. A job that has not ended `GRACE_S` after its hard limit has failed; its thread is replaced.
"""

import asyncio
import contextvars
import copy
import inspect
import math
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from jobs import children, connections, log, trace
from jobs.errors import DrainTimeout, JobInterrupted, SoftTimeLimitExceeded, TimeLimitExceeded
from jobs.queue import settling
from jobs.queue.coroutines import Interruptible
from jobs.queue.ending import Claim
from jobs.queue.execution import prepared
from jobs.queue.io_slots import Run, Slots, Soon
from jobs.queue.main_loop import MainLoop
from jobs.queue.outcome import Outcome
from jobs.queue.running import set_running_job
from jobs.queue.thread_pool import NOT_RETURNED, PoolThread, ThreadPool

WAKE = signal.SIGUSR1
"""The signal that interrupts the code which blocks the loop."""
REPEAT_S = 1.0
GRACE_S = 2.0
STUCK_S = 0.05
"""How long an interruption may wait for the loop before the code that blocks it is struck."""
_run: contextvars.ContextVar[Run | None] = contextvars.ContextVar("run", default=None)
logger = log.get("worker")


class IoExecutor:
    """The Executor (executor.py) of an IoWorker.

    Threads that hang do not count as slots. When there are more of them than slots, the process asks itself to stop (SIGTERM).
    """

    kind = "io"

    def __init__(self) -> None:
        self._slots = Slots()
        self._threads = ThreadPool(self._work, lambda: self._slots.ready(on_loop=False))
        self._main = MainLoop()
        self._base = contextvars.copy_context()
        self._n_runs = 0
        self._turning = False
        self._worn_out = False

    # --- the main thread ----------------------------------------------------------------------

    def serve(self, engine: Callable[[], int]) -> int:
        """Runs the loop here and the engine beside it; ends when the engine has."""
        previous = signal.signal(WAKE, self._on_wake)
        try:
            return self._main.serve(engine)
        finally:
            signal.signal(WAKE, previous)

    @property
    def clean(self) -> bool:
        """A coroutine that swallows even its cancellation would keep Python from ending."""
        return self._main.clean

    def _on_wake(self, _signal: int, frame: Any) -> None:
        run = _run.get()
        if run is not None and run.coroutine is not None and frame.f_globals.get("__name__") != __name__:
            run.coroutine.strike(asyncio.current_task(self._main.loop), frame.f_globals.get("__name__", ""))

    # --- the engine's thread ------------------------------------------------------------------

    def start(self, size: int) -> None:
        """`size` slots; their threads are started when they are needed."""
        self.resize(size)

    def resize(self, size: int) -> None:
        """Grows at once, and shrinks as jobs end."""
        self._slots.size = size
        self._threads.resize(size)
        self._kick()

    def submit(self, claims: Sequence[Claim], failing: Sequence[float]) -> None:
        """Those above `size` wait. A job that cannot be run has ended."""
        now = time.time()
        for claim, share in zip(claims, failing, strict=True):
            try:
                execution = prepared(claim, now)
            except Exception:  # its end is unknown: it is run again, and quarantined when that goes on
                logger.exception("the job cannot be begun", job_id=claim.id)
                execution = Outcome("crashed", claim.text(b"task"), now)
            if isinstance(execution, Outcome):
                self._slots.say_ended(claim, execution)
                continue
            self._n_runs += 1
            on_loop = inspect.iscoroutinefunction(execution.task.function)
            self._slots.put(Run(execution, share, self._n_runs), on_loop=on_loop)
        self._kick()

    def ended(self) -> list[tuple[Claim, Outcome]]:
        """In the order of their ends."""
        return self._slots.ended()

    def take_back(self) -> list[Claim]:
        """The oldest first."""
        return self._slots.take_back()

    def begun(self) -> dict[str, float]:
        """Member of rq:wip -> monotonic instant."""
        return {member: run.started for member, run in self._slots.running.copy().items()}

    def enforce(self, now: float) -> None:
        """`now` is monotonic."""
        for run in list(self._slots.running.values()):
            thread, coroutine = run.thread, run.coroutine
            if now >= run.last_deadline:
                self._give_up(run)
            elif thread is not None and not thread.is_alive() and self._slots.remove(run):
                self._slots.say_ended(run.execution.claim, Outcome("crashed", run.execution.task.name, time.time()))
            elif now >= run.deadline:
                run.last_deadline = min(run.last_deadline, now + GRACE_S)
                run.deadline = now + REPEAT_S
                self._interrupt(run, TimeLimitExceeded(run.execution.time_limit_s), now)
            elif now >= run.soft_deadline:
                run.soft_deadline = math.inf
                self._interrupt(run, SoftTimeLimitExceeded(run.execution.soft_time_limit_s), now)
            elif coroutine is not None and coroutine.pending and now - run.interrupted >= STUCK_S:
                signal.pthread_kill(threading.main_thread().ident or 0, WAKE)

    def interrupt(self, reason: JobInterrupted, job_id: str | None = None) -> None:
        """Raised once in each."""
        now = time.monotonic()
        for run in list(self._slots.running.values()):
            if job_id is None or run.execution.claim.id == job_id:
                self._interrupt(run, copy.copy(reason), now)

    def abandon(self) -> list[Claim]:
        """What these jobs return later is dropped."""
        given_up = [run for run in list(self._slots.running.values()) if self._slots.remove(run)]
        for run in given_up:
            self._interrupt(run, DrainTimeout(), time.monotonic())
            if run.thread is not None:
                self._threads.give_up(run.thread)
        return [run.execution.claim for run in given_up]

    def readable(self) -> list[int]:
        """One pipe."""
        return [self._slots.readable]

    def memory_bytes(self) -> int:
        """Of this process."""
        return children.resident_bytes()

    def stop(self) -> None:
        """Threads without a job end; the loop ends with the engine."""
        self._slots.size = 0
        self._threads.resize(0)

    def _interrupt(self, run: Run, reason: JobInterrupted, now: float) -> None:
        run.early, run.interrupted = reason, now
        thread, coroutine = run.thread, run.coroutine
        if coroutine is not None:
            coroutine.interrupt(reason)
        elif thread is not None and thread.strike(run, reason):
            run.early = None

    def _give_up(self, run: Run) -> None:
        if not self._slots.remove(run):
            return
        claim, thread = run.execution.claim, run.thread
        where = thread.whereabouts() if thread is not None else "on the loop"
        logger.error("a job does not end past its time limit: given up", job_id=claim.id, at=where)
        error = TimeLimitExceeded(run.execution.time_limit_s)
        self._slots.say_ended(claim, self._settled(run, NOT_RETURNED, error))
        if thread is not None:
            self._threads.give_up(thread)
        if len(self._threads.hanging) > self._slots.size and not self._worn_out:
            self._worn_out = True
            logger.error("more threads hang than there are slots: the worker stops", threads=len(self._threads.hanging))
            os.kill(os.getpid(), signal.SIGTERM)
        self._kick()

    # --- any thread -----------------------------------------------------------------------------

    def _kick(self) -> None:
        """Each side looks whether it may take a job."""
        if self._slots.ready(on_loop=True) and not self._turning:
            self._turning = True
            self._main.call(self._turn)
        if self._slots.ready(on_loop=False):
            self._threads.wake()

    def _enter(self, run: Run) -> None:
        claim = run.execution.claim
        _run.set(run)
        set_running_job(run.execution.running())
        structlog.contextvars.bind_contextvars(
            job_id=claim.id, queue=claim.queue, attempt=claim.attempt, task=run.execution.task.name
        )
        trace.enter(claim.trace)

    def _settle(self, run: Run, value: Any, error: BaseException | None, soon: Soon | None = None) -> None:
        run.soft_deadline = run.deadline = run.last_deadline = math.inf
        outcome = self._settled(run, value, error)
        run.coroutine = run.task = None  # whose context holds the run
        if self._slots.remove(run):
            self._slots.say_ended(run.execution.claim, outcome, soon)

    def _settled(self, run: Run, value: Any, error: BaseException | None) -> Outcome:
        execution, now = run.execution, time.time()
        try:
            if error is None:
                return settling.succeeded(execution.claim, execution.task, value, now)
            return settling.failed(execution.claim, error, now, failing=run.failing)
        except Exception:  # of a task's own policy, say: it is run again, and quarantined when that goes on
            logger.exception("the job's end cannot be decided")
            return Outcome("crashed", execution.task.name, now)

    # --- the threads of the pool ----------------------------------------------------------------

    def _work(self, thread: PoolThread) -> bool:
        run = self._slots.take(on_loop=False)
        if run is None:
            return False
        if self._slots.ready(on_loop=False):
            self._threads.wake()
        run.thread = thread
        self._base.copy().run(self._call, run, thread)
        self._kick()
        return True

    def _call(self, run: Run, thread: PoolThread) -> None:
        self._enter(run)
        value, error = thread.call(run, lambda: _begun(run))
        if error is None and inspect.isawaitable(value):
            self._main.call(self._launch, run, value, contextvars.copy_context())
        else:
            self._settle(run, value, error)

    # --- the loop ---------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._turning = False
        while (run := self._slots.take(on_loop=True)) is not None:
            call = run.execution.call
            try:
                awaitable = run.execution.task.function(*call.args, **call.kwargs)
            except BaseException as error:  # noqa: BLE001  arguments that it cannot take
                self._settle(run, NOT_RETURNED, error, self._main.loop.call_soon)
            else:
                self._launch(run, awaitable, self._base.copy())
        if self._slots.ready(on_loop=False):
            self._threads.wake()

    def _launch(self, run: Run, awaitable: Awaitable[Any], context: contextvars.Context) -> None:
        run.coroutine = Interruptible(awaitable)
        run.thread = None
        if run.early is not None:
            run.coroutine.interrupt(run.early)
        run.task = self._main.loop.create_task(self._live(run, run.coroutine), context=context)

    async def _live(self, run: Run, coroutine: Interruptible) -> None:
        value, error = NOT_RETURNED, None
        try:
            self._enter(run)
            value = await coroutine.run()
        except BaseException as raised:  # noqa: BLE001  whatever a job raises, the loop goes on
            error = raised
        if error is not None and connections.is_away(error):  # asks Redis, which takes its time
            self._main.helpers.submit(contextvars.copy_context().run, self._settle_and_kick, run, value, error)
        else:
            self._settle(run, value, error, self._main.loop.call_soon)
            self._turn()

    def _settle_and_kick(self, run: Run, value: Any, error: BaseException | None) -> None:
        self._settle(run, value, error)
        self._kick()


def _begun(run: Run) -> Any:
    if run.early is not None:
        raise run.early
    call = run.execution.call
    return run.execution.task.function(*call.args, **call.kwargs)
