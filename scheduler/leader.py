"""Who leads: any number of schedulers may run, one at a time has the lease and does the duties.

The lease keeps the work from being done twice over; it does not have to keep it right. Every write of a duty
is safe beside another leader's, so a process that was frozen in mid-duty and wakes up does no harm.
"""

import time
import uuid
from collections.abc import Callable

import redis

from jobs import keys
from jobs.queue.script import beside

LEAD = beside(__file__, "lead")
LEASE_S = 5.0


class Leader:
    """This process's part in the election. `monotonic` is the clock that measures the lease."""

    def __init__(self, client: redis.Redis, *, lease_s: float = LEASE_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._token = uuid.uuid4().hex
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._until = float("-inf")

    def leads(self) -> bool:
        """Whether this process may do duties now."""
        return self._monotonic() < self._until

    def campaign(self) -> bool:
        """Takes or renews the lease; tells whether this process leads. Leads no longer when Redis does not answer."""
        asked_at = self._monotonic()
        self._until = float("-inf")
        if LEAD(self._client, [keys.SCHEDULER_LOCK], [self._token, round(self._lease_s * 1000)]):
            # Counted from before the question: Redis starts the lease later than that.
            self._until = asked_at + self._lease_s
        return self.leads()

    def resign(self) -> None:
        """Lets another process lead at once. Asked even if this one does not lead: the answer that it does may have been lost."""
        self._until = float("-inf")
        LEAD(self._client, [keys.SCHEDULER_LOCK], [self._token, 1])
