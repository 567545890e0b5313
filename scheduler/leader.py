"""Who leads: any number of schedulers may run, one at a time has the lease and does the duties.

The lease keeps the work from being done twice over. What keeps it right is the epoch, which changes with the leader: every script
that a leader's client sends carries it, and Redis refuses those of an old one. So a process that was frozen in mid-duty and wakes
up does no harm, whatever it was about to write.
"""

import os
import time
import uuid
from collections.abc import Callable, Mapping

import redis

from jobs import crash_points, keys
from jobs.queue.script import act_for, beside

LEAD = beside(__file__, "lead")
RESIGN = beside(__file__, "resign")
LEASE_S = 4.0
LOOK_S = 0.5
"""How often one that does not lead asks: after a clean stop another one leads this much later."""


class Leader:
    """This process's part in the election. `monotonic` is the clock that measures the lease."""

    def __init__(self, client: redis.Redis, name: str = "", *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._name = name
        self._token = uuid.uuid4().hex
        self._monotonic = monotonic
        self._epoch = ""
        self._until = float("-inf")
        self.free_in_s = 0.0
        """How long the lease of the one that leads lasts, as Redis said last."""

    def leads(self) -> bool:
        """Whether this process may do duties now."""
        return self._monotonic() < self._until

    def campaign(self, counts: Mapping[str, int] | None = None) -> bool:
        """Takes or renews the lease; tells whether this process leads. Leads no longer when Redis does not answer.

        A leader's heartbeat is written in the same step, and what it has done since the last one.
        """
        asked_at = self._monotonic()
        self._until = float("-inf")
        act_for(self._client, None)  # an epoch that is over would refuse the question
        done = [part for counter, number in (counts or {}).items() for part in (counter, number)]
        args = [self._token, round(LEASE_S * 1000), self._epoch, self._name, os.getpid(), *done]
        crash_points.reach("lead.asked")
        epoch, lasts_ms = LEAD(self._client, [keys.SCHEDULER_LOCK, keys.SCHEDULER_EPOCH, keys.SCHEDULER], args)
        self.free_in_s = max(0.0, lasts_ms / 1000)
        if epoch:
            self._epoch = epoch.decode()
            # Counted from before the question: Redis starts the lease later than that.
            self._until = asked_at + LEASE_S
            act_for(self._client, self._epoch)
            crash_points.reach("lead.won")
        return self.leads()

    def stand_down(self) -> None:
        """Another process leads, as Redis said when it refused a write."""
        self._until = float("-inf")

    def resign(self) -> None:
        """Lets another process lead at once. Asked even if this one does not lead: the answer that it does may have been lost."""
        self._until = float("-inf")
        act_for(self._client, None)
        crash_points.reach("lead.leaving")
        RESIGN(self._client, [keys.SCHEDULER_LOCK], [self._token])
