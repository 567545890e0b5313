"""A claimed job that is ready to be run: its task, its arguments and its time limits."""

import math
from dataclasses import dataclass

from jobs import crash_points
from jobs.errors import Permanent, UnknownTask
from jobs.queue import settling
from jobs.queue.ending import Claim
from jobs.queue.job import Call
from jobs.queue.outcome import Outcome
from jobs.queue.running import RunningJob
from jobs.queue.task import Task, by_path


@dataclass(slots=True)
class Execution:
    """Limits are seconds from the job's start, infinite when there is none."""

    claim: Claim
    task: Task
    call: Call
    time_limit_s: float
    soft_time_limit_s: float

    def running(self) -> RunningJob:
        """What the job's own code sees of it."""
        claim = self.claim
        return RunningJob(claim.id, claim.queue, claim.attempt, claim.worker, claim.execution)


def prepared(claim: Claim, now: float) -> Execution | Outcome:
    """The job ready to be run; how it ends when it cannot be: too late, not on the allow-list, not readable."""
    fields = claim.hash
    unstarted = fields.keys().isdisjoint((b"failures", b"crashes", b"acked"))
    if b"expires_at" in fields and unstarted and claim.seconds(b"expires_at", math.inf) < now:
        return settling.expired(claim, now)
    try:
        call = claim.call()
        task = by_path(call.path)
    except UnknownTask as error:
        return settling.failed(claim, error, now)
    except ValueError as error:
        return settling.failed(claim, Permanent(str(error)), now)
    limit_s = claim.seconds(b"time_limit_s", 0.0) or claim.seconds(b"timeout", 0.0) or task.defaults.time_limit_s
    soft_s = claim.seconds(b"soft_time_limit_s", math.inf)
    crash_points.reach("run.ready")
    return Execution(claim, task, call, limit_s if limit_s > 0 else math.inf, soft_s)
