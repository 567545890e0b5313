"""Jobs under which a worker has died before. One of them may do it again, so they begin one after the other, each on record.

When a worker dies, all that it had in its hands has crashed, whichever was to blame. A job's first crash does no harm; of the
suspects only one that had begun is charged with another (reclaim.lua), and so an innocent neighbour is not quarantined.
"""

from collections import deque
from collections.abc import Callable, Sequence

import redis

from jobs import keys
from jobs.queue.ending import Claim
from jobs.queue.script import beside

SUSPECT = beside(__file__, "suspect")
TRIAL_S = 1.0
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
        self._waiting.extend(claim for claim in claims if b"crashes" in claim.hash)
        return [claim for claim in claims if b"crashes" not in claim.hash]

    def next_at(self, runs: Callable[[str], bool]) -> float:
        """When the next one may begin (monotonic); `runs` tells whether a member has not ended."""
        return self._next_at if runs(self._tried) else 0.0

    def begin(self, client: redis.Redis, now: float) -> Claim:
        """The next one, on record. Raises RedisError: it is still the next one then."""
        claim = self._waiting[0]
        SUSPECT(client, [keys.job(claim.id), keys.wip(claim.queue)], [claim.id, claim.execution])
        self._tried, self._next_at = claim.member, now + TRIAL_S
        return self._waiting.popleft()

    def take_back(self) -> list[Claim]:
        """All that have not begun."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken
