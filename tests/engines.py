"""A worker's engine on a thread of the test, which runs its jobs: what it claims, and when it ends, is seen exactly."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from processes import wait_for

from jobs import connections
from jobs.errors import JobInterrupted
from jobs.queue import settling
from jobs.queue.attempts import failed_attempt
from jobs.queue.drain import Drain
from jobs.queue.ending import Claim
from jobs.queue.engine import Engine
from jobs.queue.outcome import Outcome
from jobs.queue.registration import Registration
from jobs.queue.surroundings import Bounds, Surroundings
from jobs.setting_values import Range

LIMIT_S = 20.0
Decide = Callable[[Claim], Outcome | None]


def finished(_claim: Claim | None = None) -> Outcome:
    """The job has returned."""
    return Outcome("finished", "sample.add", time.time(), b"3", 500)


def retried(claim: Claim) -> Outcome:
    """The job has failed, and is to be tried again at once."""
    attempt = failed_attempt(claim.attempt, claim.started_at, time.time(), "w1", ValueError("no"))
    return Outcome("retry", "sample.add", time.time(), failed=attempt)


class Manual:
    """An Executor: a job that begins ends as `decide` says, or with None when the test ends it."""

    kind = "io"
    clean = True

    def __init__(self, decide: Decide) -> None:
        self.decide = decide
        self.size = 0
        self.waiting: list[Claim] = []
        self.running: dict[str, Claim] = {}
        self.order: list[str] = []
        """The jobs that have begun."""
        self.ticks = 0
        self._ended: list[tuple[Claim, Outcome]] = []
        self._lock = threading.RLock()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)

    def serve(self, engine: Callable[[], int]) -> int:
        """The engine's thread is this one."""
        return engine()

    def start(self, size: int) -> None:
        """Nothing but the size."""
        self.size = size

    resize = start

    def submit(self, claims: Sequence[Claim], failing: Sequence[float]) -> None:
        """Begins as many as there is room for."""
        assert len(claims) == len(failing)
        with self._lock:
            self.waiting += claims
            self._begin()

    def ended(self) -> list[tuple[Claim, Outcome]]:
        """Counts the ticks of the engine."""
        with self._lock:
            self.ticks += 1
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 65_536)
            found, self._ended = self._ended, []
            return found

    def take_back(self) -> list[Claim]:
        """What waits."""
        with self._lock:
            found, self.waiting = self.waiting, []
            return found

    def begun(self) -> dict[str, float]:
        """All at the same instant."""
        with self._lock:
            return dict.fromkeys(self.running, 0.0)

    def enforce(self, now: float) -> None:
        """No limits."""

    def interrupt(self, reason: JobInterrupted, job_id: str | None = None) -> None:
        """All jobs obey, the first begun first."""
        for claim in [claim for claim in self.running.values() if job_id in (None, claim.id)]:
            self.end(claim, settling.failed(claim, reason, time.time()))

    def abandon(self) -> list[Claim]:
        """What runs."""
        with self._lock:
            found = list(self.running.values())
            self.running.clear()
            return found

    def readable(self) -> list[int]:
        """One pipe."""
        return [self._reader]

    def memory_bytes(self) -> int:
        """Some."""
        return 1

    def stop(self) -> None:
        """Nothing."""

    def end(self, claim: Claim, outcome: Outcome) -> None:
        """The test, or the job, ends it."""
        with self._lock:
            del self.running[claim.member]
            self._ended.append((claim, outcome))
            self._begin()
        os.write(self._writer, b"!")

    def _begin(self) -> None:
        while self.waiting and len(self.running) < self.size:
            claim = self.waiting.pop(0)
            self.running[claim.member] = claim
            self.order.append(claim.id)
            outcome = self.decide(claim)
            if outcome is not None:
                self.end(claim, outcome)


class Running:
    """An engine at work; `executor.decide` says how its jobs end."""

    def __init__(
        self,
        url: str,
        decide: Decide = finished,
        *queues: str,
        size: int = 1,
        bounds: Bounds | None = None,
        drain_s: float = 20.0,
        order: Callable[[Sequence[str]], Sequence[str]] = lambda queues: queues,
    ) -> None:
        names = list(queues or ("default",))
        self.client = connections.tuned(redis.Redis.from_url(url), retries=0, timeout_s=1.0)
        self.executor, self.drain = Manual(decide), Drain(drain_s)
        registration = Registration("w1", names, {"kind": "io"})
        within = Range(size, size)
        around = Surroundings(
            self.client, "w1", names, self.executor, registration, within, self.drain, 4.0, order, lambda _client: None
        )
        self.engine = Engine(around, bounds or Bounds())
        self.claimed: int | None = None
        self.cpu_s = 0.0
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ended(self, limit_s: float = LIMIT_S) -> int | None:
        """Waits for its end; returns how many jobs it has claimed."""
        self._thread.join(limit_s)
        if self._thread.is_alive():
            raise AssertionError(f"the engine did not end within {limit_s:g} s")
        if self.error is not None:
            raise self.error
        return self.claimed

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Waits for the condition, while the engine runs."""
        wait_for(lambda: condition() or self.error, LIMIT_S, what)
        if self.error is not None:
            raise self.error

    def stop(self) -> int | None:
        """Drains, and ends by force what does not end."""
        self.drain.force()
        return self.ended()

    def _run(self) -> None:
        try:
            self.claimed = self.engine.run()
        except BaseException as error:  # noqa: BLE001  raised again in the test
            self.error = error
        self.cpu_s = time.thread_time()
