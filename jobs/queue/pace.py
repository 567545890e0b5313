"""How long the jobs of each task take, as measured: what decides how many of them a child is given at once."""

import math

from jobs.queue.ending import Claim

WEIGHT = 0.2
"""How much the newest duration counts."""
MAX_TASKS = 1_000
"""Names come from the jobs' hashes: a stream of invented ones must not fill the memory."""


class Pace:
    """Expected durations in seconds by the task that a job's hash names."""

    def __init__(self) -> None:
        self._expected_s: dict[bytes, float] = {}

    def expected_s(self, claim: Claim) -> float:
        """Infinite while none has ended."""
        return self._expected_s.get(claim.hash.get(b"task", b""), math.inf)

    def learn(self, claim: Claim, duration_s: float) -> None:
        """A job of that task has ended."""
        task = claim.hash.get(b"task", b"")
        known_s = self._expected_s.get(task)
        if known_s is None and len(self._expected_s) >= MAX_TASKS:
            self._expected_s.clear()
        self._expected_s[task] = duration_s if known_s is None else known_s + WEIGHT * (duration_s - known_s)
