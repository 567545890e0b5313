"""Periodic jobs: what runs, and at which times. Declared in a table in code, fired by the scheduler; docs/scheduler.md."""

import itertools
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSimError

from jobs.errors import InvalidField
from jobs.queue import fire_times
from jobs.queue.job import JobSpec
from jobs.queue.options import MAX_S
from jobs.queue.task import Task

NAME = re.compile(r"[a-z][a-z0-9_]*(-[a-z][a-z0-9_]*)*")
"""No part begins with a digit, so `cron-<name>` can never be the id of another job's fire, `cron-<name>-<Unix seconds>`."""
PREFIX = "cron-"
FIRE_ID = re.compile(rf"{PREFIX}{NAME.pattern}-([0-9]+)")
KEPT_S = range(600, 86_400)
"""How long the job of a run is kept after its end: until its outcome has been seen, whatever its task says."""
MAX_MADE_UP = 100
MAX_COUNTED = 10_000


class Overlap(StrEnum):
    """What becomes of a fire while the last run has not ended."""

    SKIP = "skip"
    QUEUE_ONE = "queue_one"
    ALLOW = "allow"


class Missed(StrEnum):
    """What becomes of fires that come too late, because no scheduler was alive."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


def definition_id(name: str) -> str:
    """The id of the job hash in rq-scheduler's set that stands for all runs of a periodic job."""
    return PREFIX + name


def fire_time(job_id: str) -> float | None:
    """The fire time (Unix seconds) for which a run of a periodic job was made; None for any other job."""
    found = FIRE_ID.fullmatch(job_id)
    return float(found[2]) if found else None


@dataclass(frozen=True)
class Periodic:
    """One periodic job: at the times of `cron` in its zone, or every `every_s` seconds. Raises ValueError that names it.

    Each fire is put off by up to `jitter_s`. It is missed when it comes `grace_s` later than that: a change of the leading
    scheduler takes less. `missed_max` is for `Missed.ALL`.
    """

    name: str
    task: Task
    cron: str = ""
    every_s: int | None = None
    timezone: str = "UTC"
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    queue: str | None = None
    overlap: Overlap = Overlap.SKIP
    missed: Missed = Missed.ONCE
    missed_max: int = 10
    jitter_s: float = 0.0
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        try:
            self._check()
            self.next_fire(0.0)
            self.definition()
        except (CronSimError, InvalidField, LookupError, OSError, ValueError) as error:
            raise ValueError(f"periodic job {self.name!r}: {error}") from error

    def _check(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError("a name is lower-case words joined by -")
        if (not self.cron) == (self.every_s is None):
            raise ValueError("either cron or every_s is needed")
        if self.every_s is not None and not _is_whole(self.every_s, 1, MAX_S):
            raise ValueError(f"every_s: whole seconds of at least 1 are needed, not {self.every_s!r}")
        if not _is_whole(self.missed_max, 1, MAX_MADE_UP):
            raise ValueError(f"missed_max: a number from 1 to {MAX_MADE_UP} is needed, not {self.missed_max!r}")
        for name, least in (("jitter_s", 0.0), ("grace_s", 1.0)):
            seconds = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not least <= seconds <= MAX_S:
                raise ValueError(f"{name}: a number of seconds of at least {least:g} is needed, not {seconds!r}")
        Overlap(self.overlap), Missed(self.missed)

    def fires(self, after: float) -> Iterator[float]:
        """The fire times later than `after` (Unix seconds), whole seconds all of them."""
        if self.every_s is not None:
            return fire_times.every(self.every_s, after)
        return fire_times.cron(self.cron, UTC if self.timezone == "UTC" else ZoneInfo(self.timezone), after)

    def next_fire(self, after: float) -> float:
        """The first fire time later than `after`. Raises ValueError when there is none."""
        found = next(self.fires(after), None)
        if found is None:
            raise ValueError(f"{self.cron!r} never fires")
        return found

    def due_at(self, fire_at: float) -> float:
        """When a fire is due: its time and its jitter, on which all processes agree."""
        return fire_at + round(zlib.crc32(f"{self.name}-{fire_at:.0f}".encode()) / 2**32 * self.jitter_s, 3)

    def n_fires(self, first: float, before: float) -> int:
        """How many fire times there are from `first` on before an instant; of a cron job, no more than MAX_COUNTED."""
        if self.every_s is not None:
            return max(0, math.ceil((before - first) / self.every_s))
        counted = itertools.islice(self.fires(first - 1), MAX_COUNTED)
        return sum(1 for _ in itertools.takewhile(before.__gt__, counted))

    def definition(self) -> JobSpec:
        """The job that every run is a copy of."""
        kept_s = self.task.defaults.keeps_s()
        kept_s = KEPT_S.stop if kept_s < 0 else min(max(kept_s, KEPT_S.start), KEPT_S.stop)
        calling = self.task.options(ignore_result=False, result_ttl_s=kept_s, **({"queue": self.queue} if self.queue else {}))
        return self.task.build(calling.defaults, self.args, self.kwargs, job_id=definition_id(self.name), now=0.0)


def _is_whole(number: object, least: int, most: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and least <= number <= most
