"""A child of a CpuWorker: runs jobs one after another until its parent hangs up.

It is told of jobs by its stream, begins one for each token that it gets, and answers with outcomes. It has no lease and no
business with Redis but that of the jobs' own code. Signals of the process group are its parent's business; one signal raises
in the running job what the parent asks for.
"""

import asyncio
import contextlib
import contextvars
import faulthandler
import gc
import inspect
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import structlog

from jobs import children, connections, crash_points, log, trace
from jobs.errors import JobInterrupted, JobStopped, TimeLimitExceeded
from jobs.queue import channel, execution, settling
from jobs.queue.board import Board
from jobs.queue.channel import Chunk, Ended, Tokens
from jobs.queue.coroutines import Interruptible
from jobs.queue.ending import Claim
from jobs.queue.execution import Execution
from jobs.queue.outcome import Outcome
from jobs.queue.running import set_running_job

WAKE = signal.SIGUSR1
"""Says that the parent asks for an interruption."""
GATHER_S = 0.005
"""How long an outcome waits for others at most, if no job runs longer."""
WEIGH_S = 1.0
logger = log.get("worker")


def live(stream: socket.socket, tokens: Tokens, board: Board, prepare: Callable[[], None]) -> NoReturn:
    """The life of the process, from right behind the fork, where all signals are blocked, to its end."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, _leave_to_parent)  # not SIG_IGN, which the processes that a job starts would inherit
            signal.siginterrupt(number, False)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123  nothing but its number is needed
            os.dup2(nothing.fileno(), 0)
        gc.freeze()  # what came from the parent stays shared with it
        faulthandler.enable(2)
        prepare()
        child = Child(stream, tokens, board)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        child.serve()
        code = 0
    except ConnectionError:
        pass  # the parent has gone
    except BaseException:
        logger.exception("a child of the worker fails")
    finally:
        _leave(code)


def _leave(code: int) -> NoReturn:
    """Without what the parent has registered to be done at its own exit."""
    try:
        logging.shutdown()
        flush_prints()
    finally:
        os._exit(code)


def flush_prints() -> None:
    """Prints what waits in this process; whoever read it may have gone, and a job may have closed it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _leave_to_parent(_number: int, _frame: object) -> None:
    pass


class Child:
    """The loop, and what interrupts the job that it runs."""

    def __init__(self, stream: socket.socket, tokens: Tokens, board: Board) -> None:
        self._stream = stream
        self._tokens = tokens
        self._board = board
        self._pid = os.getpid()
        self._incoming = channel.Incoming()
        self._token: int | None = None
        self._kept_since: float | None = None
        self._weighed_at = 0.0
        self._number = 0
        self._calls = 0
        """How many of the parent's interruptions have been looked at."""
        self._armed = False
        """Whether the job's own code runs."""
        self._coroutine: Interruptible | None = None
        os.register_at_fork(after_in_child=self._disown)

    def serve(self) -> None:
        """Until the parent hangs up. Raises ConnectionError when it has gone."""
        self._weigh(time.monotonic())
        while piece := self._stream.recv(channel.PIECE):
            for message in self._incoming.messages(piece):
                self._work_off(channel.decode_chunk(message))

    def _work_off(self, chunk: Chunk) -> None:
        self._board.generation = chunk.generation
        signal.signal(WAKE, self._wake)  # a job may have taken both away
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (WAKE,))
        for number, (data, failing) in enumerate(zip(chunk.claims, chunk.failing, strict=True), chunk.first):
            if not self._may_begin(chunk.token):
                break
            began = time.monotonic()
            if self._kept_since is not None and began - self._kept_since > GATHER_S:
                self._send()
            outcome = self._outcome(number, Claim(*data), failing, began)
            ended = time.monotonic()
            self._answer(channel.frame(Ended(number, ended - began, outcome)), ended)
        self._send()
        flush_prints()

    def _may_begin(self, token: int) -> bool:
        """Takes a token for a job of this chunk. One of a later chunk says that what is left of this one was taken back."""
        if self._token is None:
            self._token = self._tokens.taken()
        if self._token != token:
            return False
        self._token = None
        return True

    # --- one job ------------------------------------------------------------------------------

    def _outcome(self, number: int, claim: Claim, failing: float, began: float) -> Outcome:
        run = execution.prepared(claim, time.time())
        if isinstance(run, Outcome):
            return run
        self._board.begin(number, began, run.time_limit_s, run.soft_time_limit_s)
        self._number = number
        context = contextvars.copy_context()
        try:
            result = context.run(self._executed, run)
        except BaseException as error:  # noqa: BLE001  whatever a job raises, its worker survives and the attempt is recorded
            self._armed = False
            if isinstance(error, JobInterrupted) and connections.process_client.cache_info().currsize:
                # An answer may be on its way to a connection that was left in the middle.
                connections.process_client().connection_pool.disconnect(inuse_connections=False)
            return context.run(settling.failed, claim, error, time.time(), failing=failing)
        return settling.succeeded(claim, run.task, result, time.time())

    def _executed(self, run: Execution) -> Any:
        claim = run.claim
        set_running_job(run.running())
        structlog.contextvars.bind_contextvars(job_id=claim.id, queue=claim.queue, attempt=claim.attempt)
        trace.enter(claim.trace)
        try:
            self._armed = True
            if self._board.calls != self._calls:
                self._wake(WAKE, None)  # it came before there was anything to interrupt
            result = run.task.function(*run.call.args, **run.call.kwargs)
            if inspect.isawaitable(result):
                result = self._awaited(result)
            return result
        finally:
            self._armed = False
            if os.getpid() != self._pid:  # the job has forked, and this is not the process that was given the job
                os._exit(0)

    def _awaited(self, awaitable: Awaitable[Any]) -> Any:
        self._coroutine = Interruptible(awaitable)
        try:
            return asyncio.run(self._coroutine.run())
        finally:
            self._coroutine = None

    def _wake(self, _number: int, _frame: object) -> None:
        if not self._armed or self._board.calls == self._calls or os.getpid() != self._pid:
            return
        self._calls = self._board.calls
        reason = self._board.interruption(self._number)
        if reason is None:
            return
        running = self._coroutine
        if running is None:
            raise reason
        if isinstance(reason, TimeLimitExceeded | JobStopped):
            self._coroutine = None  # what the coroutine does not reach is raised as it is the next time
        running.interrupt(reason)

    # --- answers --------------------------------------------------------------------------------

    def _answer(self, frame: bytes, now: float) -> None:
        if now - self._weighed_at > WEIGH_S:
            self._weigh(now)
        if not self._board.keep(frame):
            self._send()
            if not self._board.keep(frame):  # larger than the board
                self._stream.sendall(frame)
        if self._kept_since is None:
            self._kept_since = now
        crash_points.reach("child.kept")
        self._board.end()  # behind the outcome: a death in between is nobody's

    def _send(self) -> None:
        if kept := self._board.kept():
            self._stream.sendall(kept)
            crash_points.reach("child.sent")
            self._board.sent()  # a death in between sends them twice, and the parent knows them by their numbers
        self._kept_since = None

    def _weigh(self, now: float) -> None:
        self._board.resident, self._weighed_at = children.resident_bytes(), now

    def _disown(self) -> None:
        """In a process that a job forks: it must neither answer in this one's name nor keep its stream open."""
        self._stream.close()
        self._tokens.close()
