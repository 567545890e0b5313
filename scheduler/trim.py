"""Bounds the dead letters: discards the oldest beyond a number and an age, and never silently."""

import redis

from jobs import crash_points, keys
from jobs.queue import audit, leaving
from scheduler.duty import Counts, logger

BATCH = 100
MAX_BATCHES = 20
"""Batches in one tick, so that the other duties are not kept waiting."""


class Trim:
    """The duty that keeps at most `most` dead letters, none older than `max_age_s` (0: of any age)."""

    interval_s = 10.0

    def __init__(self, client: redis.Redis, most: int, max_age_s: float) -> None:
        self._client = client
        self._most = most
        self._max_age_s = max_age_s

    def tick(self, now: float) -> Counts:
        """Discards batch after batch until nothing is beyond the bounds; all of it is logged, and counted in the audit trail."""
        trimmed = 0
        for _ in range(MAX_BATCHES):
            ids = self._beyond(now)
            trimmed += self._discard(ids, now)
            if len(ids) < BATCH:
                break
        if trimmed:
            crash_points.reach("trim.discarded")
            audit.record(self._client, "trim", who="scheduler", target=f"{trimmed} dead letters")
        return {"trimmed": trimmed}

    def _beyond(self, now: float) -> list[str]:
        """The oldest letters that are too many or too old, a batch at most."""
        excess = min(BATCH, self._client.zcard(keys.DEAD) - self._most)
        ids = self._client.zrange(keys.DEAD, 0, excess - 1) if excess > 0 else []
        if self._max_age_s and excess < BATCH:
            too_old = self._client.zrangebyscore(keys.DEAD, "-inf", now - self._max_age_s, start=0, num=BATCH)
            ids = max(ids, too_old, key=len)  # both begin with the oldest
        return [job_id.decode() for job_id in ids]

    def _discard(self, ids: list[str], now: float) -> int:
        leavers = leaving.read(self._client, ids)
        with self._client.pipeline(transaction=True) as pipeline:
            places = [leaving.add_discard(pipeline, leaver, now, by="") for leaver in leavers]
            crash_points.reach("trim.read")
            answers = pipeline.execute()
        gone = [leaver for leaver, place in zip(leavers, places, strict=True) if answers[place]]
        for leaver in gone:
            logger.warning("dead letter trimmed", job_id=leaver.id, task=leaver.name, group=leaver.group, error=leaver.error)
        return len(gone)
