"""Keeps RQ's registries and ours true to each other: workers that died, dead letters that stock workers and RQ's tools made.

What changes between the look and the write is seen by the scripts, or put right by the next tick; a living worker enrols with
every heartbeat.
"""

import redis
from rq import Queue
from rq.worker_registration import clean_worker_registry

from jobs import keys
from jobs.queue import dead_letters
from jobs.queue.overview import queue_names
from jobs.queue.script import QUEUE_DIR, script
from scheduler.duty import Counts, logger, one_item

FORGET = script(QUEUE_DIR / "forget.lua")
BATCH = 500


class Registries:
    """The duty that forgets dead workers and makes our index of dead letters say what RQ's failed registries say."""

    interval_s = 5.0

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def tick(self, now: float) -> Counts:
        """Looks at everything; the differences are found inside Redis, and at most a batch of each kind is put right."""
        queues = queue_names(self._client)
        for queue in queues:
            clean_worker_registry(Queue(queue, connection=self._client))
        failed = [keys.failed(queue) for queue in queues]
        adopted = []
        for queue, key in zip(queues, failed, strict=True):
            for job_id in (found.decode() for found in self._client.zdiff([key, keys.DEAD])[:BATCH]):
                with one_item("dead letter not adopted", job_id=job_id, queue=queue):
                    adopted += [job_id] if dead_letters.adopt(self._client, queue, job_id, now) else []
        if adopted:
            logger.warning("dead letters of stock workers", job_ids=adopted)
        if gone := self._client.zdiff([keys.DEAD, *failed])[:BATCH]:
            FORGET(self._client, [keys.QUEUES], gone)
        return {"adopted": len(adopted)}
