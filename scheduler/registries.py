"""Keeps RQ's registries and ours true to each other: workers that died, dead letters that stock workers and RQ's tools made.

All of it is a walk in small steps that begins anew every few seconds, and hurries when the numbers of dead letters differ: then
a stock worker or one of RQ's tools has made or moved one. What changes between the look and the write is seen by the scripts, or
put right by the next walk; a living worker enrols with every heartbeat.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import redis

from jobs import keys
from jobs.queue import dead_letters
from jobs.queue.overview import queue_names
from jobs.queue.script import QUEUE_DIR, beside, exchange, script
from scheduler.duty import Counts, logger, one_item

FORGET = script(QUEUE_DIR / "forget.lua")
GHOSTS = beside(__file__, "ghosts")
DEPARTED = beside(__file__, "departed")
WALK_S = 5.0
HURRY_S = 0.2
COUNT = 200
STEPS = 50
"""Of the walk over the dead letters in one tick, each a part of COUNT or one adopted letter: less than a millisecond."""
GHOST_STEPS = 5
"""Of that over what may lead to no job: there may be a million finished jobs, and nothing waits for their ghosts."""


class Registries:
    """The duty that forgets dead workers and makes our index of dead letters say what RQ's failed registries say.

    It also removes ids of jobs that are gone from RQ's other registries: of finished jobs while nothing finishes, of deferred and
    cancelled ones always. RQ's scheduled jobs are promote.lua's.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.interval_s = WALK_S
        self._now = 0.0
        self._letters: Iterator[int] = iter(())
        self._letters_done = True
        self._ghosts: Iterator[int] = iter(())
        self._served: set[str] = set()

    def tick(self, now: float) -> Counts:
        """Forgets dead workers, and goes on with both walks."""
        self._now = now
        queues = queue_names(self._client)
        self._forget_departed(queues)
        *sizes, known = self._sizes([*map(keys.failed, queues), keys.DEAD])
        if self._letters_done:
            self._letters = self._mend([queue for queue, size in zip(queues, sizes, strict=True) if size])
        adopted = list(islice(self._letters, STEPS))
        self._letters_done = len(adopted) < STEPS
        ghosts = list(islice(self._ghosts, GHOST_STEPS))
        if len(ghosts) < GHOST_STEPS:
            self._ghosts = self._take_out_ghosts(queues)
        self.interval_s = HURRY_S if sum(sizes) != known and not self._letters_done else WALK_S
        return {"adopted": sum(adopted), "ghosts": sum(ghosts)}

    def _forget_departed(self, queues: Sequence[str]) -> None:
        # A queue that has never had a job is known only from its workers, and when those have died from what they said before.
        self._served.update(queues, self._queues_of_workers())
        sets = [keys.WORKERS, *map(keys.workers, sorted(self._served))]
        for key, answer in zip(sets, exchange(self._client, [(DEPARTED, [key, keys.WORKERS], []) for key in sets]), strict=True):
            if isinstance(answer, Exception):
                with one_item("dead workers not forgotten", key=key):
                    raise answer

    def _queues_of_workers(self) -> list[str]:
        with self._client.pipeline(transaction=False) as pipeline:
            for worker in self._client.smembers(keys.WORKERS):
                pipeline.hget(worker, "queues")
            answers = pipeline.execute(raise_on_error=False)
        said = [answer.decode(errors="replace") for answer in answers if isinstance(answer, bytes)]
        return [queue for queues in said for queue in queues.split(",")]

    def _sizes(self, zsets: Sequence[str]) -> list[int]:
        with self._client.pipeline(transaction=False) as pipeline:
            for key in zsets:
                pipeline.zcard(key)
            return list(pipeline.execute())

    def _mend(self, queues: Sequence[str]) -> Iterator[int]:
        """Yields after each step how many letters it has adopted. Our index comes first: what leaves it may enter again."""
        for ids in self._parts(keys.DEAD):
            FORGET(self._client, [keys.QUEUES], ids)
            yield 0
        for queue in queues:
            for ids in self._parts(keys.failed(queue)):
                known = self._client.zmscore(keys.DEAD, ids)
                yield 0
                for job_id in (job_id for job_id, died_at in zip(ids, known, strict=True) if died_at is None):
                    yield self._adopt(queue, job_id.decode(errors="replace"))

    def _adopt(self, queue: str, job_id: str) -> int:
        with one_item("dead letter not adopted", job_id=job_id, queue=queue):
            if dead_letters.adopt(self._client, queue, job_id, self._now):
                logger.warning("dead letter of a stock worker", job_id=job_id, queue=queue)
                return 1
        return 0

    def _parts(self, key: str) -> Iterator[list[bytes]]:
        cursor = -1
        while cursor:
            cursor, part = self._client.zscan(key, max(cursor, 0), count=COUNT)
            if part:
                yield [job_id for job_id, _score in part]

    def _take_out_ghosts(self, queues: Sequence[str]) -> Iterator[int]:
        for queue in queues:
            for key in (keys.finished(queue), keys.canceled(queue), keys.deferred(queue)):
                cursor = b"0"
                while True:
                    asked, cursor, removed = cursor, b"0", 0
                    with one_item("ghosts not removed", key=key):
                        cursor, removed = GHOSTS(self._client, [key], [asked, COUNT, repr(self._now)])
                    yield removed
                    if cursor == b"0":
                        break
