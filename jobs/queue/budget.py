"""The retry budget: how many of a task's executions fail, over all workers, so that retries of a failing task slow down.

A worker counts in memory and adds its counts to Redis with each heartbeat: no round trip of a job's own. What a killed worker
had not added yet is missing from a share over a minute, and nowhere else.
"""

from collections import Counter

import redis

from jobs import keys
from jobs.queue.script import Argument, beside

BUDGET = beside(__file__, "budget")
BUCKET_S = 10
BUCKETS = 6
MIN_EXECUTIONS = 20
"""Fewer executions than this in the window say nothing."""


class Budget:
    """The shares of failing executions, as this worker knows them."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, bool]] = Counter()
        self._failing: dict[str, float] = {}

    def count(self, task_name: str, succeeded: bool) -> None:
        """One execution has ended; a job that was handed back or deferred was none."""
        self._seen[(task_name, succeeded)] += 1

    def failing(self, task_name: str) -> float:
        """The share of the task's executions that failed, over the last minute; 0 while there are too few."""
        return self._failing.get(task_name, 0.0)

    def exchange(self, client: redis.Redis, now: float) -> None:
        """Adds what was counted and learns the shares of those tasks; called about once a second.

        Counts whose reply was lost are sent again, and then count twice; those that Redis could not take are dropped.
        """
        seen, self._seen = self._seen, Counter()
        names = {name for name, _succeeded in seen} | self._failing.keys()
        for name in names:
            counts: list[Argument] = [repr(now), seen[(name, True)], seen[(name, False)], BUCKET_S, BUCKETS]
            succeeded, failed = BUDGET(client, [keys.outcomes(name)], counts)
            executions = succeeded + failed
            if executions:
                self._failing[name] = failed / executions if executions >= MIN_EXECUTIONS else 0.0
            else:
                self._failing.pop(name, None)
