"""What operators do to periodic jobs, each noted in the audit trail."""

from typing import Literal

import redis

from jobs.queue import audit, schedules

Action = Literal["run", "pause", "resume"]


def act(client: redis.Redis, action: Action, name: str, now: float, *, by: str) -> str:
    """Does it; returns the id of the job that a run out of turn is, else nothing.

    Raises NotFound, and Conflict for a run while one has not ended. Pausing what is paused changes nothing and is not noted.
    """
    if action == "run":
        job_id = schedules.run_now(client, name, now)
    else:
        job_id = ""
        if not (schedules.pause if action == "pause" else schedules.resume)(client, name, now):
            return job_id
    audit.record(client, f"{action} schedule", who=by, target=name)
    return job_id
