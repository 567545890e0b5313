"""Watching jobs from an event loop: whoever watches, and however many jobs, they share one look at Redis per tick."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import islice

import redis.asyncio
import redis.exceptions

from jobs import keys, log
from jobs.queue import progress
from jobs.queue.overview import instant
from jobs.queue.progress import Progress

LOOKED_AT = ("status", "failures", "progress", "started_at")
NO_JOB = [None] * len(LOOKED_AT)
TICK_S = 0.15
AWAY_S = 1.0
MAX_IDS = 1_000
ENDED = frozenset({"finished", "failed", "canceled", "stopped"})
logger = log.get("watching")


@dataclass(frozen=True, slots=True)
class Seen:
    """How a job stood at a look. `status` is RQ's, empty for a job that is gone; `failures` are failed attempts."""

    status: str
    failures: int
    progress: Progress | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return not self.status or self.status in ENDED


async def changes(client: redis.asyncio.Redis, job_id: str) -> AsyncGenerator[Seen, None]:
    """How the job stands now and at every change, until it has ended; leave early with `contextlib.aclosing`."""
    watcher = _watchers.get(client) or _Watcher(client)
    changed = watcher.join(job_id)
    last: Seen | None = None
    try:
        while last is None or not last.ended:
            await changed.wait()
            changed.clear()
            seen = watcher.seen[job_id]
            if seen != last:
                last = seen
                yield seen
    finally:
        watcher.leave(job_id, changed)


class _Watcher:
    """Looks while somebody watches; it is in `_watchers` for exactly that long."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._events: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.seen: dict[str, Seen] = {}
        _watchers[client] = self
        self._task = asyncio.create_task(self._run())

    def join(self, job_id: str) -> asyncio.Event:
        changed = asyncio.Event()
        self._events[job_id].add(changed)
        if job_id in self.seen:
            changed.set()
        return changed

    def leave(self, job_id: str, changed: asyncio.Event) -> None:
        self._events[job_id].discard(changed)
        if not self._events[job_id]:
            del self._events[job_id]
            self.seen.pop(job_id, None)

    async def _run(self) -> None:
        try:
            while self._events:
                pause_s = TICK_S
                try:
                    await self._look()
                except redis.exceptions.RedisError as error:
                    logger.info("cannot look at jobs", error=str(error))
                    pause_s = AWAY_S
                await asyncio.sleep(pause_s)
        finally:
            del _watchers[self._client]

    async def _look(self) -> None:
        wanted = iter(list(self._events))
        while ids := list(islice(wanted, MAX_IDS)):
            async with self._client.pipeline(transaction=False) as pipeline:
                for job_id in ids:
                    pipeline.hmget(keys.job(job_id), LOOKED_AT)
                rows = await pipeline.execute(raise_on_error=False)
            for job_id, row in zip(ids, rows, strict=True):
                if isinstance(row, redis.exceptions.ResponseError):
                    row = NO_JOB  # the key is somebody else's
                seen = _seen(row)
                if job_id in self._events and self.seen.get(job_id) != seen:
                    self.seen[job_id] = seen
                    for changed in self._events[job_id]:
                        changed.set()


_watchers: dict[redis.asyncio.Redis, _Watcher] = {}


def _seen(row: list[bytes | None]) -> Seen:
    status, failures, report, started_at = [part.decode(errors="replace") if part else "" for part in row]
    shown = progress.read(report, status, instant(started_at)) if report else None
    return Seen(status, int(failures) if failures.isdigit() else 0, shown)
