"""What a worker's engine (engine.py) asks of the part that runs the jobs: a loop with threads, or child processes.

All of it but `serve` is called on the engine's thread. The engine keeps the lease of every claim from `submit` until it has
written what `ended` gave.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from jobs.errors import JobInterrupted
from jobs.queue.ending import Claim
from jobs.queue.outcome import Outcome


class Executor(Protocol):
    """Runs claimed jobs, `size` at once."""

    kind: str
    """`io` or `cpu`."""

    @property
    def clean(self) -> bool:
        """Whether nothing of a job is left in this process, once `serve` has returned."""

    def serve(self, engine: Callable[[], int]) -> int:
        """Called on the main thread: runs the engine, on this or on another thread, and returns what it returns."""

    def start(self, size: int) -> None:
        """The first call of the engine."""

    def resize(self, size: int) -> None:
        """How many jobs run at once from now on; those that run are not touched."""

    def submit(self, claims: Sequence[Claim], failing: Sequence[float]) -> None:
        """Takes jobs, in this order; those above `size` wait inside. `failing` belongs to each, for `settling.failed`."""

    def ended(self) -> list[tuple[Claim, Outcome]]:
        """What has ended since the last call. Never blocks."""

    def take_back(self) -> list[Claim]:
        """All jobs that have not begun; they will not be."""

    def begun(self) -> dict[str, float]:
        """The jobs that have begun and not ended: member of rq:wip -> monotonic instant of the start."""

    def enforce(self, now: float) -> None:
        """Looks after time limits and after dead or overgrown parts; called at least every 0.1 s while jobs run."""

    def interrupt(self, reason: JobInterrupted, job_id: str | None = None) -> None:
        """Raises `reason` inside the job, or inside all that have begun."""

    def abandon(self) -> list[Claim]:
        """Ends by force what still runs, and returns it: it will not appear in `ended`."""

    def readable(self) -> list[int]:
        """File descriptors that are readable when something may have ended, or something is to be looked after."""

    def memory_bytes(self) -> int:
        """Resident memory of all its processes."""

    def stop(self) -> None:
        """The last call: nothing runs any more."""
