"""A worker's heartbeat: renews what it holds, shows what it does, learns from the answer how many jobs to run at once."""

import os

import redis

from jobs import connections, crash_points, log
from jobs.queue.budget import Budget
from jobs.queue.held import Held
from jobs.queue.pools import Scaler
from jobs.queue.surroundings import Surroundings

BEAT_S = 1.0
logger = log.get("worker")


class Heart:
    """Beats when it is told to; `next_at` (monotonic) says when that is due. `size` is how many jobs run at once."""

    def __init__(self, around: Surroundings, held: Held, budget: Budget) -> None:
        self._around, self._held, self._budget = around, held, budget
        self._scaler = Scaler(around.range)
        self._started = self._suspended = False
        self.greets = True
        """Whether Redis may not know what this worker declares: at its start, and after an outage, from which it may come back
        older."""
        self.size = around.range.min
        self.next_at = float("-inf")

    def beat(self, now: float) -> None:
        """Raises RedisError: it is due still then."""
        around = self._around
        if not self._started:
            around.greet(around.client)
            self.greets = False
        begun, busy = around.executor.begun(), min(self.size, self._held.unended)
        oldest = min(begun, key=begun.__getitem__, default="")
        pulse = around.registration.beat(
            around.client,
            leases=self._held.leases(),
            lease_s=around.lease_s,
            state="suspended" if self._suspended else "busy" if self._held else "idle",
            current_job=oldest.partition(":")[0],
            size=self.size,
            within=self._scaler.range,
            busy=busy,
            memory_bytes=around.executor.memory_bytes(),
        )
        crash_points.reach("beat.answered")
        if not self._started:
            self._started = True
            logger.info("worker started", worker=around.name, kind=around.executor.kind, queues=around.queues, pid=os.getpid())
        self.next_at = now + BEAT_S
        self._held.lose(pulse.lost)
        self._suspended = pulse.suspended
        self._scaler.range = pulse.wanted or around.range
        age_s = 0.0 if pulse.suspended else pulse.oldest_age_s
        size = self._scaler.sized(self.size, now=now, oldest_age_s=age_s, busy=busy)
        if size != self.size:
            logger.info("resized", size=size, before=self.size)
            self.size = size
            around.executor.resize(size)
        self._budget.exchange(around.client, around.registration.clock.now())
        if self.greets:
            self._greet_again()

    def _greet_again(self) -> None:
        """What a full memory refuses waits for the next beat, and keeps the worker from nothing else."""
        try:
            self._around.greet(self._around.client)
            self.greets = False
        except redis.exceptions.ResponseError as error:
            if not connections.is_away(error):
                raise
