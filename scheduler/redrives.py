"""Works off the redrives (and discards) of many dead letters: the oldest letter first, at the rate that was asked for.

What is done to a letter and what the record says of it is one MULTI, with the instant at which the next letter is due: a kill
anywhere neither loses a letter, nor moves one twice, nor forgets the pace.
"""

import math
from collections import Counter

import redis

from jobs import crash_points, keys
from jobs.errors import InvalidField
from jobs.queue import leaving, redrives
from jobs.queue.leaving import Leaver
from jobs.queue.redrives import Redrive
from scheduler.duty import Counts, is_ours, logger, one_item

BATCH = 100
"""Letters in one MULTI, during which Redis serves nobody else."""
PER_TICK = 500
"""Letters of all records in one tick, so that the other duties are not kept waiting."""
OUTCOMES = {"redrive": "redriven", "discard": "discarded"}


class Redrives:
    """The duty that moves the letters of every open record."""

    interval_s = 0.1

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def tick(self, now: float) -> Counts:
        """Gives every open record its share of the letters of a tick."""
        counts: Counter[str] = Counter()
        records = redrives.still_open(self._client)
        for record in records:
            with one_item("redrive not worked off", redrive=record.id):
                self._work_off(record, now, max(1, PER_TICK // len(records)), counts)
        return counts

    def _work_off(self, record: Redrive, now: float, share: int, counts: Counter[str]) -> None:
        number = min(BATCH, share, n_due(record, now))
        while listed := self._client.zrange(keys.redrive_letters(record.id), 0, max(number, 1) - 1, withscores=True):
            if number <= 0:
                return
            moved = self._move(record, [(job_id.decode(), died_at) for job_id, died_at in listed], now)
            counts.update(moved)
            # Not all of them: not due, since redrive.lua knows the pace better, or gone; the next tick sees.
            share -= number
            number = min(number, share) if moved.total() == number else 0
        crash_points.reach("redrives.emptied")
        if redrives.end(self._client, record.id, "done", now):
            logger.info("redrive done", redrive=record.id, action=record.action)

    def _move(self, record: Redrive, listed: list[tuple[str, float]], now: float) -> Counter[str]:
        leavers = leaving.read(self._client, [job_id for job_id, _died_at in listed])
        deaths = self._client.zmscore(keys.DEAD, [leaver.id for leaver in leavers])
        with self._client.pipeline(transaction=True) as pipeline:
            places = [
                _add(pipeline, record, leaver, now, same_death=found == died_at)
                for leaver, (_job_id, died_at), found in zip(leavers, listed, deaths, strict=True)
            ]
            crash_points.reach("redrives.read")
            answers = pipeline.execute(raise_on_error=False)
        crash_points.reach("redrives.moved")
        moved: Counter[str] = Counter()
        for leaver, place in zip(leavers, places, strict=True):
            answer = 0 if place is None else answers[place]
            if isinstance(answer, Exception):
                if is_ours(answer):
                    raise answer
                logger.error("dead letter not moved", job_id=leaver.id, redrive=record.id, error=str(answer))
            elif answer:
                moved[OUTCOMES[record.action] if answer == 1 else "refused"] += 1
        return moved


def n_due(record: Redrive, now: float) -> int:
    """How many letters may be due at most; redrive.lua, which moves `next_at` on, has the last word on each."""
    rate = record.rate_per_s
    return BATCH if rate is None else min(math.ceil(rate), math.floor((now - record.next_at) * rate) + 1)


def _add(pipeline: redis.client.Pipeline, record: Redrive, leaver: Leaver, now: float, *, same_death: bool) -> int | None:
    """Adds what is to be done with one letter; returns the place of its answer."""
    places = [keys.redrive(record.id), keys.redrive_letters(record.id)]
    if record.action == "discard":
        if same_death:
            return leaving.add_discard(pipeline, leaver, now, by=record.by, record=places)
        pipeline.zrem(places[1], leaver.id)
        return None
    data = ""
    if record.kwargs is not None:
        try:
            data = leaving.edited(leaver, None, record.kwargs)
        except InvalidField:
            data = leaving.REFUSED
    return leaving.add_redrive(pipeline, leaver, now, data=data, by=record.by, record=places)
