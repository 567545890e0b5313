"""Admission: new work is refused before the system drowns in it; nothing accepted is ever dropped.

Orders are refused first; entries keep a reserved share of memory, so that counting survives a flood of orders.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from enum import StrEnum

import redis
from starlette.concurrency import run_in_threadpool

from jobs import connections, log
from jobs.errors import Refused
from jobs.queue import overview
from jobs.settings import Settings

SAMPLE_S = 1.0
RETRY_AFTER_S = (5, 15)
logger = log.get("admission")


class Kind(StrEnum):
    """What asks to be admitted."""

    ENTRIES = "entries"
    ORDERS = "orders"
    JOBS = "jobs"


@dataclass(frozen=True, slots=True)
class Load:
    """The system's load: age of the oldest ready job by queue, and the used share of Redis' memory (0 without a limit)."""

    ages_s: dict[str, float]
    memory_share: float


CALM = Load({}, 0.0)
ENTRY_QUEUES = frozenset({"entries"})


def refusal(kind: Kind, load: Load, *, max_age_s: float, max_share: float) -> str | None:
    """Why new work of this kind is refused now; None when it is admitted. Pure."""
    share = (1.0 + max_share) / 2 if kind is Kind.ENTRIES else max_share
    if load.memory_share > share:
        return f"Redis has used {load.memory_share:.0%} of its memory"
    relevant = {name: age for name, age in load.ages_s.items() if (name in ENTRY_QUEUES) == (kind is Kind.ENTRIES)}
    if relevant:
        name, age_s = max(relevant.items(), key=lambda item: item[1])
        if age_s > max_age_s:
            return f"the oldest job on queue {name} has waited {age_s:.0f} s"
    return None


class Admission:
    """Samples the load once a second and answers from the last sample."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._load = CALM

    def check(self, kind: Kind) -> None:
        """Raises Refused when new work of this kind is not admitted."""
        settings = self._settings
        reason = refusal(kind, self._load, max_age_s=settings.max_queue_age_s, max_share=settings.max_memory_share)
        if reason is not None:
            raise Refused(f"{reason}; nothing of this request was accepted", random.randint(*RETRY_AFTER_S))

    async def run(self) -> None:
        """Samples until cancelled; Redis' absence leaves the last sample."""
        while True:
            try:
                self._load = await run_in_threadpool(self._sample)
            except connections.AWAY:
                logger.debug("load not sampled, Redis is away")
            except Exception:
                logger.exception("load not sampled")
            await asyncio.sleep(SAMPLE_S)

    def _sample(self) -> Load:
        ages = {queue.name: queue.oldest_age_s for queue in overview.queues(self._client, time.time()) if not queue.paused}
        memory = self._client.info("memory")
        limit = memory.get("maxmemory", 0)
        return Load(ages, memory["used_memory"] / limit if limit else 0.0)
