"""Admission: new work is refused before the system drowns in it; nothing accepted is ever dropped.

Each kind of work has limits of its own, in the order in which it is given up: background jobs, orders, entries. The
steps of accepted orders are never refused: their jobs are made by scripts inside Redis, for which a share of the memory is kept.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

import redis
import redis.asyncio
from starlette.concurrency import run_in_threadpool

from jobs import connections, keys, log
from jobs.errors import Refused
from jobs.mall import counting, steps
from jobs.mall.orders import Status
from jobs.queue import overview
from jobs.queue.priorities import base
from jobs.settings import Settings
from web.backlog import Backlog, Stage
from web.lag import Lag
from web.pulse import PATIENCE_S, Pulse
from web.waiting import Waiting

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


WAITING = {Kind.ENTRIES: (64, 256), Kind.ORDERS: (16, 64), Kind.JOBS: (8, 32)}
"""Requests of a kind that may wait for Redis at once in a process: so many always, so many while they are answered in time."""
LATE_S = {Kind.ENTRIES: 0.03, Kind.ORDERS: 0.015, Kind.JOBS: 0.015}
"""While work is refused anyway, what may have waited longer than that before it was seen is refused too: never accepted late."""
ORDER_TASKS = (steps.start, steps.pick_batch, steps.pick, steps.pack, steps.deliver)

UNPACKED = (Status.ACCEPTED, Status.PICKING, Status.PACKING)


@dataclass(frozen=True, slots=True)
class Load:
    """The system's load: age of the oldest ready job by queue, the used share of Redis' memory (0 without a limit), and how
    many more orders would be worked off within the limit of age."""

    ages_s: Mapping[str, float]
    memory_share: float
    room: float = math.inf


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


def _refused(reason: str, retry_s: tuple[int, int]) -> Refused:
    return Refused(f"{reason}; nothing of this request was accepted", random.randint(*retry_s))


class Admission:
    """Samples the load once a second and answers from the last sample; bounds who waits for Redis, and how long."""

    def __init__(self, client: redis.asyncio.Redis, sync_client: redis.Redis, settings: Settings) -> None:
        self.pulse = Pulse(client)
        self._client = sync_client
        self._settings = settings
        self._load = CALM
        self._refused: dict[Kind, str] = {}
        self._lag, self._backlog = Lag(), Backlog()
        self._taken = 0  # orders since the last sample
        self._waiting = {kind: Waiting(*bounds) for kind, bounds in WAITING.items()}

    @property
    def refused(self) -> Mapping[Kind, str]:
        """The work that is not admitted by the last sample, and why."""
        return self._refused

    def check(self, kind: Kind) -> None:
        """Raises RedisAway when Redis does not answer, Refused when new work of this kind is not admitted. Cheap."""
        self.pulse.check()
        if kind in self._refused:
            raise self._overload(self._refused[kind], LOADED_RETRY_S)
        if kind is Kind.ORDERS and self._taken >= self._load.room:
            raise self._overload("more orders wait than are worked off in time", LOADED_RETRY_S)
        now = time.monotonic()
        if limit := self._waiting[kind].full(now):
            raise self._overload(f"{limit} {kind} are being accepted right now", BUSY_RETRY_S)
        if self._lag.late_s(now) > LATE_S[kind]:
            raise _refused("this process is behind with its work", BUSY_RETRY_S)

    def _overload(self, reason: str, retry_s: tuple[int, int]) -> Refused:
        self._lag.watch()  # being late alone is no overload: a slow machine would refuse its only client
        return _refused(reason, retry_s)

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
        self._waiting[kind].begin(time.monotonic())
        self._taken += kind is Kind.ORDERS

    def end(self, kind: Kind, failed: Exception | None) -> None:
        """Notes that it waits no more."""
        self._waiting[kind].end(time.monotonic())
        # The next sample would say so a second later. Redis 6.2 wraps what a script met.
        if isinstance(failed, redis.exceptions.OutOfMemoryError) or " -OOM" in str(failed):
            self._judge(replace(self._load, memory_share=1.0))

    async def run(self) -> None:
        """Samples until closed or cancelled; Redis' absence leaves the last sample."""
        beating = asyncio.create_task(self.pulse.run())
        try:
            while True:
                try:
                    taken = self._taken
                    self._judge(await run_in_threadpool(self._sample))
                    self._taken -= taken  # those are in the sample, which may count some of the others twice for a second
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
        now = time.time()
        queues = overview.queues(self._client, now)
        ages = {queue.name: queue.oldest_age_s for queue in queues if not queue.paused}
        memory = self._client.info("memory")
        limit = memory.get("maxmemory", 0)
        unpacked = sum(self._client.zcard(keys.STATUS_PREFIX + status) for status in UNPACKED)
        stages = {
            "packed": Stage(unpacked, _passed(queues, steps.pack.queue)),
            "delivered": Stage(unpacked + _waiting(queues, steps.deliver.queue), _passed(queues, steps.deliver.queue)),
        }
        room = self._backlog.room(stages, now, self._settings.max_queue_age_s)
        return Load(ages, memory["used_memory"] / limit if limit else 0.0, room)


def _passed(queues: Sequence[overview.QueueInfo], name: str) -> int:
    return sum(queue.finished for queue in queues if base(queue.name) == name)


def _waiting(queues: Sequence[overview.QueueInfo], name: str) -> int:
    return sum(queue.depth for queue in queues if base(queue.name) == name)
