"""Periodic jobs: what runs, and at which times. Declared in a table in code, fired by the scheduler.

The times are cron's, reckoned in the job's own time zone: a time that the clocks skip in spring fires at the
next one that exists, a time that they repeat in autumn fires once.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from jobs.errors import InvalidField
from jobs.queue.job import JobSpec
from jobs.queue.task import Task

NAME = re.compile(r"[a-z][a-z0-9_]*(-[a-z][a-z0-9_]*)*")
"""No part begins with a digit, so `cron-<name>` can never be the id of another job's fire, `cron-<name>-<Unix seconds>`."""
PREFIX = "cron-"


def definition_id(name: str) -> str:
    """The id of the job hash in rq-scheduler's set that stands for all runs of a periodic job."""
    return PREFIX + name


@dataclass(frozen=True)
class Periodic:
    """One periodic job. Checked when it is declared: raises ValueError that names it."""

    name: str
    task: Task
    cron: str
    timezone: str = "UTC"
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    queue: str | None = None

    def __post_init__(self) -> None:
        try:
            if not NAME.fullmatch(self.name):
                raise ValueError("a name is lower-case words joined by -")
            self.next_fire(0.0)
            self.definition()
        except (CronSimError, InvalidField, LookupError, OSError, StopIteration, ValueError) as error:
            reason = f"{self.cron!r} never fires" if isinstance(error, StopIteration) else str(error)
            raise ValueError(f"periodic job {self.name!r}: {reason}") from error

    def next_fire(self, after: float) -> float:
        """The first fire time later than `after`, both Unix seconds."""
        zone = UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)
        times = CronSim(self.cron, datetime.fromtimestamp(math.floor(after), zone))
        # Within the hour that autumn repeats, cronsim may answer with the time of the first pass, which is over.
        return next(fire_at for fire_at in (moment.timestamp() for moment in times) if fire_at > after)

    def definition(self) -> JobSpec:
        """The job that every run is a copy of."""
        return self.task.spec(*self.args, job_id=definition_id(self.name), now=0.0, queue=self.queue, **self.kwargs)
