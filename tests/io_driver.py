"""Drives an IoExecutor as a worker's engine does, with a test as the engine."""

import select
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from jobs.queue import task as task_module
from jobs.queue.backoff import Backoff
from jobs.queue.ending import Claim
from jobs.queue.io_executor import IoExecutor
from jobs.queue.options import Options
from jobs.queue.outcome import Outcome
from jobs.queue.task import Task

WITHIN_S = 20.0
LOOK_S = 0.01


class Driver:
    """Makes claims of any function's jobs, and collects how they end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.executor = IoExecutor()
        self.outcomes: dict[str, Outcome] = {}
        self.twice: list[str] = []
        self._monkeypatch = monkeypatch

    def run(self, script: Callable[[], None], size: int = 10) -> None:
        """Runs the script on the engine's thread, the jobs on this one; what the script raises is raised here."""

        def engine() -> int:
            self.executor.start(size)
            try:
                script()
            finally:
                self.executor.take_back()
                self.executor.abandon()
                self.executor.stop()
            return 0

        assert self.executor.serve(engine) == 0

    def claim(
        self, function: Callable[..., Any], *args: Any, limit_s: float = 60.0, soft_s: float | None = None, job_id: str = ""
    ) -> Claim:
        """A claimed job that calls the function."""
        made = Task(function, name="io.sample", options=Options(), retry=Backoff(max_attempts=3, base_s=1.0))
        self._monkeypatch.setitem(task_module._BY_PATH, made.path, made)
        flat = [value.encode() for value in made.spec(*args).flat]
        fields = dict(zip(flat[::2], flat[1::2], strict=True)) | {b"time_limit_s": repr(limit_s).encode()}
        if soft_s is not None:
            fields[b"soft_time_limit_s"] = repr(soft_s).encode()
        return Claim(job_id or uuid.uuid4().hex, uuid.uuid4().hex, "default", "w1", fields, time.time())

    def submit(self, *claims: Claim) -> None:
        """Hands jobs over."""
        self.executor.submit(claims, [0.0] * len(claims))

    def outcome(self, claim: Claim) -> Outcome:
        """How the job ends."""
        self.wait(lambda: claim.id in self.outcomes)
        return self.outcomes[claim.id]

    def do(self, claim: Claim) -> Outcome:
        """Runs one job to its end."""
        self.submit(claim)
        return self.outcome(claim)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Goes on as an engine does until the condition holds."""
        until = time.monotonic() + WITHIN_S
        while True:
            self.turn()
            if condition():
                return
            if time.monotonic() > until:
                raise AssertionError(f"not within {WITHIN_S:g} s; ended: {self.outcomes}")

    def turn(self) -> None:
        """One cycle of an engine."""
        select.select(self.executor.readable(), [], [], LOOK_S)
        for claim, outcome in self.executor.ended():
            if claim.id in self.outcomes:
                self.twice.append(claim.id)
            self.outcomes[claim.id] = outcome
        self.executor.enforce(time.monotonic())


def error_of(outcome: Outcome) -> tuple[str, str]:
    """What follows, and the class of the error."""
    return outcome.what, outcome.failed.error_type if outcome.failed else ""
