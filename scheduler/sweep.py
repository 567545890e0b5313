"""Finds queued jobs that no list holds: a stock worker was killed after it had popped them and before it registered them.

With one queue such a worker leaves the id in `:intermediate`. With several it leaves nothing, so all jobs are looked
through slowly in the background. Jobs that belong to a state (an order, a buffer) are the reconciler's; it knows more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import redis

from jobs import keys
from jobs.queue.overview import queue_names
from jobs.queue.schedules import PREFIX
from jobs.queue.script import beside
from scheduler.duty import Counts, logger, one_item

REQUEUE = beside(__file__, "requeue")
STUCK_AFTER_S = 10.0
"""A living worker registers a job within milliseconds of popping it."""
OLD_AFTER_S = 30.0
SCAN_COUNT = 1000
MAX_INTERMEDIATE = 500
MAX_SEARCHES = 20
"""Searches through a queue's list in one tick; each costs the length of the list."""

Place = tuple[str, str]
"""Queue and job id."""


class Sightings:
    """Which places were seen without a break, and since when."""

    def __init__(self) -> None:
        self._since: dict[Place, float] = {}

    def see(self, places: Iterable[Place], now: float) -> list[Place]:
        """Replaces what is seen; returns the places seen for longer than STUCK_AFTER_S."""
        self._since = {place: self._since.get(place, now) for place in places}
        return [place for place, since in self._since.items() if now - since >= STUCK_AFTER_S]

    def places(self) -> list[Place]:
        """What was seen last."""
        return list(self._since)


class Sweep:
    """The duty that brings lost jobs back."""

    name = "sweep"
    interval_s = 2.0

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._intermediate = Sightings()
        self._lost = Sightings()
        self._cursor = 0

    def tick(self, now: float) -> Counts:
        """Looks at every `:intermediate` and at the next part of all jobs."""
        parked = [
            (queue, job_id.decode())
            for queue in queue_names(self._client)
            for job_id in self._client.lrange(keys.intermediate(queue), 0, MAX_INTERMEDIATE - 1)
        ]
        stuck = self._intermediate.see(parked, now)
        stuck += self._lost.see([*self._lost_before(stuck), *self._scan(now)], now)
        counts: Counter[str] = Counter()
        for queue, job_id in stuck:
            with one_item("job not requeued", job_id=job_id, queue=queue):
                if requeue(self._client, queue, job_id, now):
                    counts["requeued"] += 1
                    logger.warning("lost job requeued", job_id=job_id, queue=queue)
        return counts

    def _lost_before(self, stuck: list[Place]) -> list[Place]:
        """What the last tick missed and this one still does."""
        return self._missing([place for place in self._lost.places() if place not in stuck])

    def _scan(self, now: float) -> list[Place]:
        self._cursor, found = self._client.scan(self._cursor, match="rq:job:*", count=SCAN_COUNT, _type="hash")
        with self._client.pipeline(transaction=False) as pipeline:
            for key in found:
                pipeline.hmget(key, "status", "origin", "enqueued_at", "owned")
            hashes = pipeline.execute()
        limit = datetime.fromtimestamp(now - OLD_AFTER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
        old: dict[Place, bytes] = {}
        for key, (status, origin, enqueued_at, owned) in zip(found, hashes, strict=True):
            job_id = key.decode().removeprefix("rq:job:")
            # Instants in RQ's format compare as text. The jobs of the periodic table have no other index than this.
            if status == b"queued" and enqueued_at and enqueued_at < limit and not (owned and not job_id.startswith(PREFIX)):
                old[((origin or b"default").decode(), job_id)] = enqueued_at
        return self._missing(self._passed_by(old)[:MAX_SEARCHES])

    def _passed_by(self, old: Mapping[Place, bytes]) -> list[Place]:
        """Those that the head of their queue overtook: in a queue worked off in order, the others still wait in it."""
        queues = sorted({queue for queue, _ in old})
        heads = [self._client.lindex(keys.queue(queue), 0) for queue in queues]
        ages = {
            queue: head and self._client.hget(keys.job(head.decode()), "enqueued_at")
            for queue, head in zip(queues, heads, strict=True)
        }
        return [place for place, enqueued_at in old.items() if not (ages[place[0]] and enqueued_at >= ages[place[0]])]

    def _missing(self, places: list[Place]) -> list[Place]:
        with self._client.pipeline(transaction=False) as pipeline:
            for queue, job_id in places:
                pipeline.hget(keys.job(job_id), "status")
                pipeline.lpos(keys.queue(queue), job_id)
            answers = pipeline.execute()
        found = zip(places, answers[::2], answers[1::2], strict=True)
        return [place for place, status, position in found if status == b"queued" and position is None]


def requeue(client: redis.Redis, queue: str, job_id: str, now: float) -> bool:
    """Puts a lost job back in front of its queue; False when it is not lost."""
    return bool(
        REQUEUE(
            client,
            [
                keys.job(job_id),
                keys.queue(queue),
                keys.intermediate(queue),
                keys.wip(queue),
                keys.scheduled(queue),
                keys.SCHEDULED_JOBS,
            ],
            [job_id, queue, repr(now)],
        )
    )
