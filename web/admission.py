"""Admission: new work is refused before the system drowns in it; nothing accepted is ever dropped.

Each kind of work has limits of its own, in the order in which it is given up: background jobs, orders, entries. The
steps of accepted orders are never refused: their jobs are made by scripts inside Redis, for which a share of the memory is kept.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

import redis
import redis.asyncio
from starlette.concurrency import run_in_threadpool

from jobs import connections, log
from jobs.errors import Refused
from jobs.mall import counting, steps
from jobs.queue import overview
from jobs.queue.priorities import base
from jobs.settings import Settings
from web.pulse import PATIENCE_S, Pulse

SAMPLE_S = 1.0
BUSY_RETRY_S = (1, 3)
LOADED_RETRY_S = (5, 15)
CALMER = 0.8
"""What was refused is taken again below this share of its limit: at the limit itself every other request would be refused."""
JOBS_SHARE = 0.5
logger = log.get("admission")

Result = TypeVar("Result")


class Kind(StrEnum):
    """What asks to be admitted."""

    ENTRIES = "entries"
    ORDERS = "orders"
    JOBS = "jobs"


MAX_WAITING = {Kind.ENTRIES: 256, Kind.ORDERS: 64, Kind.JOBS: 32}
"""Requests of a kind that may wait for Redis at once in a process: as many as it answers within some tens of milliseconds."""
ORDER_TASKS = (steps.start, steps.pick_batch, steps.pick, steps.pack, steps.deliver)


@dataclass(frozen=True, slots=True)
class Load:
    """The system's load: age of the oldest ready job by queue, and the used share of Redis' memory (0 without a limit)."""

    ages_s: Mapping[str, float]
    memory_share: float


CALM = Load({}, 0.0)


def refusal(kind: Kind, load: Load, *, max_age_s: float, max_share: float, refused: bool = False) -> str | None:
    """Why new work of this kind is refused now; None when it is admitted. `refused` says whether it was before."""
    age_limit_s, share_limit = {
        Kind.ENTRIES: (max_age_s, (1.0 + max_share) / 2),
        Kind.ORDERS: (max_age_s, max_share),
        Kind.JOBS: (max_age_s * JOBS_SHARE, max_share * (1 + JOBS_SHARE) / 2),
    }[kind]
    ease = CALMER if refused else 1.0
    if load.memory_share > share_limit * ease:
        return f"Redis has used {load.memory_share:.0%} of its memory"
    relevant = {name: age for name, age in load.ages_s.items() if _concerns(kind, base(name))}
    if relevant:
        name, age_s = max(relevant.items(), key=lambda item: item[1])
        if age_s > age_limit_s * ease:
            return f"the oldest job on queue {name} has waited {age_s:.0f} s"
    return None


def _concerns(kind: Kind, queue: str) -> bool:
    """A backlog of background jobs is no reason to refuse orders, the other way round it is."""
    if kind is Kind.ORDERS:
        return any(queue == task.queue for task in ORDER_TASKS)
    return (queue == counting.count.queue) == (kind is Kind.ENTRIES)


class Admission:
    """Samples the load once a second and answers from the last sample; bounds who waits for Redis, and how long."""

    def __init__(self, client: redis.asyncio.Redis, sync_client: redis.Redis, settings: Settings) -> None:
        self.pulse = Pulse(client)
        self._client = sync_client
        self._settings = settings
        self._load = CALM
        self._refused: dict[Kind, str] = {}
        self._waiting = dict.fromkeys(Kind, 0)

    def check(self, kind: Kind) -> None:
        """Raises RedisAway when Redis does not answer, Refused when new work of this kind is not admitted. Cheap."""
        self.pulse.check()
        if kind in self._refused:
            raise Refused(f"{self._refused[kind]}; nothing of this request was accepted", random.randint(*LOADED_RETRY_S))
        if self._waiting[kind] >= MAX_WAITING[kind]:
            reason = f"{MAX_WAITING[kind]} {kind} are being accepted right now; nothing of this request was accepted"
            raise Refused(reason, random.randint(*BUSY_RETRY_S))

    async def carry(self, kind: Kind, work: Callable[[], Awaitable[Result]]) -> Result:
        """Does the work in Redis within PATIENCE_S. Raises what `check` and the work raise, and RedisAway when it took longer."""
        self.begin(kind)
        failed: Exception | None = None
        started = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await work()
        except TimeoutError:
            raise self.pulse.missed(time.monotonic() - started) from None
        except redis.exceptions.ResponseError as error:
            failed = error
            raise
        finally:
            self.end(kind, failed)

    def begin(self, kind: Kind) -> None:
        """Notes that a request waits for Redis. Raises what `check` raises."""
        self.check(kind)
        self._waiting[kind] += 1

    def end(self, kind: Kind, failed: Exception | None) -> None:
        """Notes that it waits no more."""
        self._waiting[kind] -= 1
        # The next sample would say so a second later. Redis 6.2 wraps what a script met.
        if isinstance(failed, redis.exceptions.OutOfMemoryError) or " -OOM" in str(failed):
            self._judge(replace(self._load, memory_share=1.0))

    async def run(self) -> None:
        """Samples until closed or cancelled; Redis' absence leaves the last sample."""
        beating = asyncio.create_task(self.pulse.run())
        try:
            while True:
                try:
                    self._judge(await run_in_threadpool(self._sample))
                except connections.AWAY:
                    logger.debug("load not sampled, Redis is away")
                except Exception:
                    logger.exception("load not sampled")
                await asyncio.sleep(SAMPLE_S)
        finally:
            self.pulse.close()
            beating.cancel()

    def _judge(self, load: Load) -> None:
        self._load, settings, before = load, self._settings, self._refused
        limits = {"max_age_s": settings.max_queue_age_s, "max_share": settings.max_memory_share}
        found = {kind: refusal(kind, load, refused=kind in before, **limits) for kind in Kind}
        self._refused = {kind: reason for kind, reason in found.items() if reason is not None}
        for kind in self._refused.keys() - before.keys():
            logger.warning("new work is refused", kind=kind, reason=self._refused[kind])
        for kind in before.keys() - self._refused.keys():
            logger.info("new work is taken again", kind=kind)

    def _sample(self) -> Load:
        ages = {queue.name: queue.oldest_age_s for queue in overview.queues(self._client, time.time()) if not queue.paused}
        memory = self._client.info("memory")
        limit = memory.get("maxmemory", 0)
        return Load(ages, memory["used_memory"] / limit if limit else 0.0)
