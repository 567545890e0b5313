"""Keeps RQ's registries and ours true to each other: workers that died, dead letters that stock workers and RQ's tools made.

What changes between the look and the write is put right by the next tick; a living worker enrols with every heartbeat.
"""

import redis
from rq import Queue
from rq.worker_registration import clean_worker_registry

from jobs import keys
from jobs.queue.overview import queue_names
from scheduler.duty import Counts, logger


class Registries:
    """The duty that forgets dead workers and makes our index of dead letters say what RQ's failed registries say."""

    interval_s = 5.0

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def tick(self, now: float) -> Counts:
        """Looks at everything; the differences are found inside Redis."""
        queues = queue_names(self._client)
        for queue in queues:
            clean_worker_registry(Queue(queue, connection=self._client))
        failed = [keys.failed(queue) for queue in queues]
        found = {job_id for key in failed for job_id in self._client.zdiff([key, keys.DEAD])}
        gone = self._client.zdiff([keys.DEAD, *failed])
        if found:
            self._client.zadd(keys.DEAD, dict.fromkeys(found, now), nx=True)
            logger.warning("dead letters of stock workers", job_ids=sorted(job_id.decode() for job_id in found))
        if gone:
            self._client.zrem(keys.DEAD, *gone)
        return {}
