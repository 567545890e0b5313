"""Finds queued jobs that are nowhere: a stock worker had popped them, and ended before it registered them.

With one queue such a worker leaves the id in `:intermediate`. With several it leaves nothing, so all jobs are walked through:
what says that it waits in a queue, and is in no list when the walk is over, is looked for everywhere else. Only stock workers
lose jobs like that, so the walk hurries while there are some. Jobs that belong to a state are the reconciler's.
"""

from collections.abc import Iterable, Iterator

import redis

from jobs import crash_points, keys
from jobs.queue import overview
from jobs.queue.script import Argument, beside, exchange
from scheduler.duty import Counts, logger, one_item

REQUEUE = beside(__file__, "requeue")
WALK = beside(__file__, "walk")
STUCK_AFTER_S = 3.0
"""How long a job must have been nowhere. A stock worker registers a job within milliseconds of popping it; one that stands
still in between for longer than this finds its job run by another one."""
LOOK_S = 1.0
PASS_S = 3.0
"""From the beginning of a walk to that of the next."""
STOCK_FOR_S = 60.0
"""How long after the last stock worker was seen jobs that it lost are looked for in haste."""
HURRY_S = 0.1
STEPS = 20
"""Of a walk in one tick while it hurries, about one millisecond each."""
SCAN_COUNT = 500
PAGE = 1_000
MAX_QUEUED = 200_000
"""Queued jobs that are kept in mind; when there are more, the lists are read more than once in a walk."""
MAX_LOOKS = 100
MAX_ACTS = 20

Place = tuple[str, str]
"""Queue and job id."""
Missing = tuple[float, bytes]
"""When the first look found it nowhere, and what requeue.lua answered then."""


class Sweep:
    """The duty that brings lost jobs back: those that two looks, STUCK_AFTER_S apart, found nowhere."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.interval_s = LOOK_S
        self._now = float("-inf")
        self._looked_at = self._pass_at = self._stock_at = float("-inf")
        self._pass: Iterator[bool] = iter(())
        self._missing: dict[Place, Missing] = {}

    def tick(self, now: float) -> Counts:
        """Requeues what has been missing long enough, looks into each `:intermediate`, and goes on with the walk."""
        self._now = now
        requeued = self._requeue()
        if now - self._looked_at >= LOOK_S:
            names = overview.queue_names(self._client)
            # After a while in which another scheduler led, or none did, nobody knows which workers there were.
            if now - self._looked_at > STOCK_FOR_S or stock_workers(self._client):
                self._stock_at = now
            self._looked_at = now
            self._look(self._parked(names))
        hurry = now - self._stock_at < STOCK_FOR_S
        for _ in range(STEPS if hurry else 1):
            if not self._step():
                break
        self.interval_s = HURRY_S if hurry else LOOK_S
        return {"requeued": requeued}

    def _requeue(self) -> int:
        requeued = 0
        due = [place for place, (since, _) in self._missing.items() if self._now - since >= STUCK_AFTER_S][:MAX_ACTS]
        for queue, job_id in due:
            _since, answer = self._missing.pop((queue, job_id))
            with one_item("job not requeued", job_id=job_id, queue=queue):
                crash_points.reach("sweep.looked")
                if requeue(self._client, queue, job_id, self._now, answer) == answer:
                    crash_points.reach("sweep.requeued")
                    requeued += 1
                    logger.warning("lost job requeued", job_id=job_id, queue=queue)
        return requeued

    def _parked(self, names: list[str]) -> list[Place]:
        with self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.lrange(keys.intermediate(name), 0, MAX_LOOKS - 1)
            found = pipeline.execute()
        return [(name, job_id.decode(errors="replace")) for name, ids in zip(names, found, strict=True) for job_id in ids]

    def _step(self) -> bool:
        """One round trip of the walk; False when the next one is not to begin yet."""
        if next(self._pass, False):
            return True
        if self._now - self._pass_at < PASS_S:
            return False
        self._pass, self._pass_at = self._walk(), self._now
        return True

    def _walk(self) -> Iterator[bool]:
        """Yields after each round trip."""
        cursor, queued = b"0", dict[bytes, bytes]()
        while True:
            cursor, found = WALK(self._client, [], [cursor, SCAN_COUNT])
            queued.update(zip(found[::2], found[1::2], strict=True))
            yield True
            if queued and (cursor == b"0" or len(queued) > MAX_QUEUED):
                yield from self._take_out_what_waits(queued)
                places = [(queue.decode(errors="replace"), job_id.decode(errors="replace")) for job_id, queue in queued.items()]
                for first in range(0, len(places), MAX_LOOKS):
                    self._look(places[first : first + MAX_LOOKS])
                    yield True
                queued.clear()
            if cursor == b"0":
                return

    def _take_out_what_waits(self, queued: dict[bytes, bytes]) -> Iterator[bool]:
        """Reads each list from its end: there it does not move away while workers take from its front."""
        names = overview.queue_names(self._client)
        held = [keys.held_jobs(*place) for place, number in overview.held_jobs(self._client, names).items() if number]
        for key in (*map(keys.queue, names), *held):
            last = -1
            while page := self._client.lrange(key, last - PAGE + 1, last):
                for job_id in page:
                    queued.pop(job_id, None)
                last -= PAGE
                yield True

    def _look(self, places: Iterable[Place]) -> None:
        """Keeps in mind which of these are nowhere."""
        asked = list(dict.fromkeys(places))
        answers = exchange(self._client, [(REQUEUE, *_asking(*place, self._now)) for place in asked]) if asked else []
        for place, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Exception):
                with one_item("job not looked for", queue=place[0], job_id=place[1]):
                    raise answer
            elif answer is None:
                self._missing.pop(place, None)
            elif place not in self._missing or self._missing[place][1] != answer:
                self._missing.pop(place, None)  # the oldest stand first
                self._missing[place] = (self._now, answer)


def stock_workers(client: redis.Redis) -> bool:
    """Whether a worker that is not ours is registered: its hash says no kind."""
    with client.pipeline(transaction=False) as pipeline:
        for key in client.smembers(keys.WORKERS):
            pipeline.hmget(key, "birth", "kind")
        answers = pipeline.execute(raise_on_error=False)
    return any(not isinstance(answer, Exception) and answer[0] and not answer[1] for answer in answers)


def requeue(client: redis.Redis, queue: str, job_id: str, now: float, answer: bytes = b"") -> bytes | None:
    """Puts a lost job back in front of its queue, given what a look answered; without that it looks. None: it is not lost."""
    found: bytes | None = REQUEUE(client, *_asking(queue, job_id, now, answer))
    return found


def _asking(queue: str, job_id: str, now: float, answer: bytes = b"") -> tuple[list[str], list[Argument]]:
    places = [keys.job(job_id), keys.intermediate(queue), keys.wip(queue), keys.scheduled(queue), keys.SCHEDULED_JOBS]
    return places, [job_id, queue, repr(now), answer]
