"""An engine by hand for the tests of the CpuWorker's children: it submits jobs and waits for their ends."""

import contextlib
import itertools
import json
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from processes import wait_for

from jobs.queue.cpu_executor import CpuExecutor
from jobs.queue.ending import Claim
from jobs.queue.outcome import Outcome
from jobs.queue.task import Task

LIMIT_S = 20.0


class Hall:
    """An engine by hand: it submits and waits."""

    def __init__(
        self, size: int = 2, *, max_jobs: int = 0, max_memory_mb: float = 0, on_fork: Callable[[], object] = int
    ) -> None:
        self.executor = CpuExecutor(max_jobs=max_jobs, max_memory_mb=max_memory_mb, on_fork=on_fork)
        self.outcomes: dict[str, Outcome] = {}
        self._ids = itertools.count()
        self._enforced_at = 0.0
        self.executor.start(size)

    def claim(self, task: Task, *args: Any, **fields: Any) -> Claim:
        spec = task.spec(*args)
        flat = [text.encode() for text in spec.flat] + [
            part for key, value in fields.items() for part in (key.encode(), str(value).encode())
        ]
        found = dict(zip(flat[::2], flat[1::2], strict=True))
        return Claim(f"job-{next(self._ids)}", "e1", "default", "w1", found, time.time())

    def submit(self, *claims: Claim) -> None:
        self.executor.submit(claims, [0.0] * len(claims))

    def turn(self) -> None:
        """What the engine does again and again."""
        select.select(self.executor.readable(), [], [], 0.01)
        for claim, outcome in self.executor.ended():
            assert claim.id not in self.outcomes, f"{claim.id} has ended twice"
            self.outcomes[claim.id] = outcome
        if time.monotonic() - self._enforced_at > 0.03:
            self._enforced_at = time.monotonic()
            self.executor.enforce(self._enforced_at)

    def until(self, condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        def asked() -> Any:
            self.turn()
            return condition()

        return wait_for(asked, limit_s, what)

    def run(self, *claims: Claim) -> list[Outcome]:
        """Submits jobs and waits for their ends."""
        self.submit(*claims)
        self.until(lambda: all(claim.id in self.outcomes for claim in claims), "the jobs end")
        return [self.outcomes[claim.id] for claim in claims]

    def result(self, claim: Claim) -> Any:
        outcome = self.run(claim)[0]
        assert outcome.what == "finished", outcome
        return json.loads(outcome.result)

    def begins(self, *claims: Claim) -> None:
        self.until(lambda: {claim.member for claim in claims} <= self.executor.begun().keys(), "the jobs begin")

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self.executor._children]


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def runs(folder: Path, name: str) -> int:
    """How often the job that leaves lines there has begun."""
    path = folder / name
    return len(path.read_text().splitlines()) if path.exists() else 0


@contextlib.contextmanager
def open_halls() -> Iterator[Callable[..., Hall]]:
    """Makes halls; at the end none of their processes is left."""
    made: list[Hall] = []

    def make(*args: Any, **options: Any) -> Hall:
        made.append(Hall(*args, **options))
        return made[-1]

    yield make
    for hall in made:
        hall.executor.abandon()
        pids = hall.pids
        hall.executor.stop()
        assert not [pid for pid in pids if exists(pid)]
