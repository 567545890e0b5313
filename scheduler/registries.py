"""Keeps RQ's registries and ours true to each other: workers that died, dead letters that stock workers and RQ's tools made.

What changes between the look and the write is seen by the scripts, or put right by the next tick; a living worker enrols with
every heartbeat. Differences in number are seen at once; all else that somebody may have damaged, by a slow walk.
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
        self._cursor = 0

    def tick(self, now: float) -> Counts:
        """Looks at the registries' sizes and at the next part of our index; at most a batch of each kind is put right."""
        queues = queue_names(self._client)
        for queue in queues:
            clean_worker_registry(Queue(queue, connection=self._client))
        self._cursor, part = self._client.zscan(keys.DEAD, self._cursor, count=BATCH)
        self._forget([job_id for job_id, _died_at in part])
        failed = [keys.failed(queue) for queue in queues]
        with self._client.pipeline(transaction=False) as pipeline:
            for key in (*failed, keys.DEAD):
                pipeline.zcard(key)
            *sizes, known = pipeline.execute()
        adopted = []
        if sum(sizes) != known:
            self._forget(self._client.zdiff([keys.DEAD, *failed])[:BATCH])
            for queue, key in zip(queues, failed, strict=True):
                for job_id in self._client.zdiff([key, keys.DEAD])[:BATCH]:
                    adopted += self._adopted(queue, job_id.decode(errors="replace"), now)
        if adopted:
            logger.warning("dead letters of stock workers", job_ids=adopted)
        return {"adopted": len(adopted)}

    def _forget(self, ids: list[bytes]) -> None:
        if ids:
            FORGET(self._client, [keys.QUEUES], ids)

    def _adopted(self, queue: str, job_id: str, now: float) -> list[str]:
        with one_item("dead letter not adopted", job_id=job_id, queue=queue):
            return [job_id] if dead_letters.adopt(self._client, queue, job_id, now) else []
        return []
