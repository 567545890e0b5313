"""Jobs that one more crash would quarantine. They begin one after the other, each on record.

When a worker dies, all that it had in its hands has crashed, whichever was to blame. That does no harm until the last time: then
only a job that had begun is charged (reclaim.lua), so the neighbours of one that kills its workers are not quarantined too.
"""

from collections import deque
from collections.abc import Callable, Sequence

import redis

from jobs import crash_points, keys
from jobs.queue import ending
from jobs.queue.ending import Claim
from jobs.queue.script import beside

SUSPECT = beside(__file__, "suspect")
CRASHES = ending.MAX_CRASHES - 1
TRIAL_S = 0.2
"""How long one runs before the next may begin beside it: most that kill their worker do it soon."""


class Suspects:
    """Those in one worker's hands that wait for their turn."""

    def __init__(self) -> None:
        self._waiting: deque[Claim] = deque()
        self._tried = ""
        self._next_at = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def sorted_out(self, claims: Sequence[Claim]) -> list[Claim]:
        """Keeps the suspects; returns the others."""
        suspects = [claim for claim in claims if b"crashes" in claim.hash and claim.number(b"crashes", 0) >= CRASHES]
        if not suspects:
            return list(claims)
        self._waiting.extend(suspects)
        return [claim for claim in claims if claim not in suspects]

    def next_at(self, runs: Callable[[str], bool]) -> float:
        """When the next one may begin (monotonic); `runs` tells whether a member has not ended."""
        return self._next_at if runs(self._tried) else 0.0

    def begin(self, client: redis.Redis, now: float) -> Claim:
        """The next one, on record. Raises RedisError: it is still the next one then."""
        claim = self._waiting[0]
        SUSPECT(client, [keys.job(claim.id), keys.wip(claim.queue)], [claim.id, claim.execution])
        crash_points.reach("suspect.noted")
        self._tried, self._next_at = claim.member, now + TRIAL_S
        return self._waiting.popleft()

    def take_back(self) -> list[Claim]:
        """All that have not begun."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken
