"""A worker's watch: a thread that keeps the lease of the running job and knows its deadlines.

The job's own code runs on the main thread and can neither stop the heartbeat nor miss its time limit: past it the
watch sends the main thread a signal, whose handler raises inside the job.
"""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobs import log
from jobs.errors import DrainTimeout, JobInterrupted, SoftTimeLimitExceeded, TimeLimitExceeded
from jobs.queue.attempts import message
from jobs.queue.coroutines import Interruptible
from jobs.queue.ending import Claim

WAKE = signal.SIGUSR1
"""The signal that carries an interruption to the main thread."""
logger = log.get("worker")


@dataclass(slots=True)
class _Watched:
    claim: Claim
    limit_s: float
    deadline: float
    soft_limit_s: float
    soft_deadline: float


class Watch:
    """Ticks every `interval_s` and at deadlines. `beat(claim or None)` is called on its thread and may fail freely."""

    def __init__(self, beat: Callable[[Claim | None], None], interval_s: float) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._changed = threading.Condition()
        self._watched: _Watched | None = None
        self._pending: JobInterrupted | None = None
        self._armed = False
        """Whether the job's code runs, and not the watch's own. Set and read on the main thread alone, hence without the lock."""
        self._coroutine: Interruptible | None = None
        self._drain_deadline: float | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._main = threading.main_thread()

    def start(self) -> None:
        """Starts the thread; called on the main thread, whose jobs it watches."""
        signal.signal(WAKE, self._deliver)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; the last heartbeat has then been sent."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(timeout=self._interval_s + 1)

    def begin(self, claim: Claim, limit_s: float, soft_limit_s: float) -> None:
        """A job starts on the main thread: from now on it may be interrupted."""
        now = time.monotonic()
        with self._changed:
            self._watched = _Watched(claim, limit_s, now + limit_s, soft_limit_s, now + soft_limit_s)
            self._changed.notify()
        self._armed = True
        self._deliver(WAKE, None)  # what came while the lock was held

    def awaits(self, running: Interruptible | None) -> None:
        """The job goes on as a coroutine, in whose awaits it is to be interrupted."""
        self._coroutine = running

    def end(self) -> None:
        """The job's code has returned: what comes too late is dropped. The lease is kept until `begin` or `idle`."""
        self._armed = False
        with self._changed:
            self._pending = None
            if self._watched is not None:
                self._watched.deadline = self._watched.soft_deadline = float("inf")

    def idle(self) -> None:
        """The job has been acknowledged: there is no lease to keep."""
        with self._changed:
            self._watched = None

    def drain(self, within_s: float) -> None:
        """The worker stops: a job that still runs after `within_s` is interrupted and handed back."""
        self._drain_deadline = time.monotonic() + within_s
        # No notify: this is called by signal handlers, which must not wait for a lock. The next tick sees it.

    def interrupt(self, reason: JobInterrupted) -> None:
        """Raises `reason` inside the running job, if one runs; called on any thread but the main one."""
        with self._changed:
            if self._watched is None or self._watched.deadline == float("inf"):
                return
            self._pending = reason
        signal.pthread_kill(self._main.ident or 0, WAKE)

    def _deliver(self, _signal: int, _frame: object) -> None:
        if not self._armed or self._pending is None:
            return
        reason, self._pending = self._pending, None
        running, self._coroutine = self._coroutine, None
        if running is None:
            raise reason
        running.interrupt(reason)
        if not isinstance(reason, TimeLimitExceeded):
            self._coroutine = running  # a hard limit that the coroutine does not reach is raised as it is the next time

    def _run(self) -> None:
        next_beat = 0.0
        while True:
            with self._changed:
                if self._ended:
                    return
                self._changed.wait(max(0.0, min(next_beat, self._next_deadline()) - time.monotonic()))
                watched = self._watched
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + self._interval_s
                self._beat_safely(watched.claim if watched else None)
            if watched is not None and watched.deadline != float("inf"):
                self._enforce(watched, now)

    def _beat_safely(self, claim: Claim | None) -> None:
        try:
            self._beat(claim)
        except Exception as error:  # noqa: BLE001  the thread's edge: without it no lease and no time limit would be kept
            logger.warning("heartbeat not sent", error=message(error))

    def _next_deadline(self) -> float:
        if self._watched is None:
            return float("inf")
        return min(self._watched.deadline, self._watched.soft_deadline)

    def _enforce(self, watched: _Watched, now: float) -> None:
        if now >= watched.deadline:
            self.interrupt(TimeLimitExceeded(watched.limit_s))
            watched.deadline = now + self._interval_s
        elif now >= watched.soft_deadline:
            watched.soft_deadline = float("inf")
            self.interrupt(SoftTimeLimitExceeded(watched.soft_limit_s))
        elif self._drain_deadline is not None and now >= self._drain_deadline:
            self.interrupt(DrainTimeout())
