"""The scheduler's duties for periodic jobs by hand: they do what is due at an instant that the test names."""

from collections import Counter

import redis

from jobs import keys
from jobs.queue.periodic import Periodic
from scheduler.fires import Fires, Runs
from scheduler.periodic import Registration
from scheduler.promote import Promotion


class PeriodicFloor:
    """One scheduler process with a table; a second one with the same table may stand beside it."""

    def __init__(self, client: redis.Redis, *table: Periodic) -> None:
        self.client = client
        self.fires = Fires(client, table)
        self._registration = Registration(client, table)
        self._promotion = Promotion(client, self.fires.due, lambda _job_id, _due_at, _now: {})
        self._runs = Runs(client, table)

    def register(self, now: float) -> None:
        """Asserts the table."""
        self._registration.tick(now)

    def promote(self, now: float) -> Counter[str]:
        """Fires what is due; returns what was counted, without zeros."""
        return +Counter(self._promotion.tick(now))

    def follow(self, now: float) -> Counter[str]:
        """Looks at the runs, and runs what has waited for their ends."""
        return +Counter(self._runs.tick(now))

    def tick(self, now: float) -> Counter[str]:
        """All duties once, as the loop does them."""
        self.register(now)
        return self.promote(now) + self.follow(now)

    def ready(self, queue: str = "ticks") -> list[str]:
        """The ids of the jobs in the queue."""
        return [job_id.decode() for job_id in self.client.lrange(keys.queue(queue), 0, -1)]

    def end(self, job_id: str, status: str = "finished", **fields: str) -> None:
        """What a worker leaves behind."""
        self.client.hset(keys.job(job_id), mapping={"status": status, **fields})

    def waiting(self) -> dict[str, float]:
        """What stands in rq-scheduler's set."""
        return {job_id.decode(): due_at for job_id, due_at in self.client.zrange(keys.SCHEDULED_JOBS, 0, -1, withscores=True)}
