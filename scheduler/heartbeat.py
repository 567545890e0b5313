"""Says that this process lives, keeps its lease, and publishes what the leader has done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import redis

from jobs import keys
from scheduler.duty import Counts, logger
from scheduler.leader import Leader


class Heartbeat:
    """The duty that runs in every scheduler, leading or not. `announce` refreshes the hash that rq-scheduler keeps of itself."""

    name = "heartbeat"
    interval_s = 1.0

    def __init__(self, client: redis.Redis, leader: Leader, announce: Callable[[], None], who: str, pid: int) -> None:
        self.counts: Counter[str] = Counter()
        self._client = client
        self._leader = leader
        self._announce = announce
        self._who = who
        self._pid = pid

    def tick(self, now: float) -> Counts:
        """Campaigns first: without an answer to that nothing else is done."""
        led = self._leader.leads()
        leads = self._leader.campaign()
        if leads != led:
            logger.info("leads now" if leads else "leads no longer", name=self._who)
        self._announce()
        if leads:
            self.publish(now)
        return {}

    def publish(self, now: float) -> None:
        """Writes the leader's hash. Counts are for people: those of the last second are lost in a crash."""
        done = {counter: number for counter, number in self.counts.items() if number}
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.hset(keys.SCHEDULER, mapping={"heartbeat_at": repr(now), "name": self._who, "pid": self._pid})
            for counter, number in done.items():
                pipeline.hincrby(keys.SCHEDULER, counter, number)
            pipeline.execute()
        self.counts.subtract(done)
