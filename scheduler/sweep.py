"""Finds queued jobs that are nowhere: a stock worker was killed after it had popped them and before it registered them.

With one queue such a worker leaves the id in `:intermediate`. With several it leaves nothing, so all jobs are looked
through slowly in the background. Jobs that belong to a state (an order, a buffer) are the reconciler's; it knows more.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import redis

from jobs import keys
from jobs.queue.overview import queue_names
from jobs.queue.script import beside
from scheduler.duty import Counts, logger, one_item

REQUEUE = beside(__file__, "requeue")
STUCK_AFTER_S = 10.0
"""A living worker registers a job within milliseconds of popping it."""
OLD_AFTER_S = 30.0
SCAN_COUNT = 1000
MAX_LOOKS = 20
"""Jobs of one scan that are searched for; each costs the length of its queue, and while there is a backlog many are old."""

Place = tuple[str, str]
"""Queue and job id."""


class Sweep:
    """The duty that brings lost jobs back: those that were nowhere at every look for STUCK_AFTER_S."""

    interval_s = 2.0

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._missing_since: dict[Place, float] = {}
        self._cursor = 0

    def tick(self, now: float) -> Counts:
        """Looks for what was missing before, at every `:intermediate`, and at the next part of all jobs."""
        before, self._missing_since = self._missing_since, {}
        requeued = 0
        for place in dict.fromkeys((*before, *self._parked(), *self._old(now))):
            queue, job_id = place
            since = before.get(place, now)
            stuck = now - since >= STUCK_AFTER_S
            with one_item("job not requeued", job_id=job_id, queue=queue):
                if not requeue(self._client, queue, job_id, now, act=stuck):
                    continue
                if stuck:
                    requeued += 1
                    logger.warning("lost job requeued", job_id=job_id, queue=queue)
                else:
                    self._missing_since[place] = since
        return {"requeued": requeued}

    def _parked(self) -> Iterator[Place]:
        for queue in queue_names(self._client):
            for job_id in self._client.lrange(keys.intermediate(queue), 0, MAX_LOOKS - 1):
                yield queue, job_id.decode()

    def _old(self, now: float) -> list[Place]:
        """Queued jobs of the next part of the key space that have been waiting for a while."""
        self._cursor, found = self._client.scan(self._cursor, match="rq:job:*", count=SCAN_COUNT, _type="hash")
        with self._client.pipeline(transaction=False) as pipeline:
            for key in found:
                pipeline.hmget(key, "status", "origin", "enqueued_at", "owned")
            hashes = pipeline.execute()
        # Instants in RQ's format compare as text.
        limit = datetime.fromtimestamp(now - OLD_AFTER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
        return [
            ((origin or b"default").decode(), key.decode().removeprefix("rq:job:"))
            for key, (status, origin, enqueued_at, owned) in zip(found, hashes, strict=True)
            if status == b"queued" and enqueued_at and enqueued_at < limit and not owned
        ][:MAX_LOOKS]


def requeue(client: redis.Redis, queue: str, job_id: str, now: float, *, act: bool = True) -> bool:
    """Puts a lost job back in front of its queue, or only looks; False when it is not lost."""
    sets = [keys.scheduled(queue), keys.SCHEDULED_JOBS]
    places = [keys.job(job_id), keys.intermediate(queue), keys.wip(queue), *sets]
    return bool(REQUEUE(client, places, [job_id, queue, repr(now), int(act)]))
