"""How the system stands at one moment: what the operations page and /metrics tell, in about ten round trips."""

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from jobs import keys
from jobs.mall import footfall, order_store
from jobs.mall.footfall import Summary
from jobs.queue import breaker, delayed, overview, schedules
from jobs.queue.breaker import BreakerState
from jobs.queue.delayed import DelayedState
from jobs.queue.overview import QueueInfo, WorkerInfo
from jobs.queue.schedules import Schedule
from web.state import State

MAX_HEARTBEAT_AGE_S = 10.0
NO_COUNTS = frozenset({"heartbeat_at", "name", "pid", "epoch"})


@dataclass(frozen=True, slots=True)
class Operations:
    """`heartbeat_age_s` is None when no scheduler ever led, `epoch` counts how often the lead changed hands; `done` counts what
    schedulers did: promoted, reclaimed, ...; `max_memory_bytes` is 0 without a limit."""

    people: Summary
    orders: dict[str, int]
    queues: list[QueueInfo]
    workers: list[WorkerInfo]
    breakers: list[BreakerState]
    dead_letters: int
    suspended: bool
    scheduler: str
    epoch: int
    heartbeat_age_s: float | None
    done: dict[str, int]
    delayed: DelayedState
    schedules: list[Schedule]
    memory_bytes: int
    max_memory_bytes: int

    @property
    def scheduler_up(self) -> bool:
        """Whether a scheduler leads."""
        return self.heartbeat_age_s is not None and self.heartbeat_age_s <= MAX_HEARTBEAT_AGE_S


async def read(here: State, now: float) -> Operations:
    """Reads it all; each part is consistent in itself."""
    async with here.redis.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(keys.SCHEDULER)
        pipeline.info("memory")
        pipeline.zcard(keys.DEAD)
        pipeline.exists(keys.SUSPENDED)
        fields, memory, dead_letters, suspended = await pipeline.execute()
    scheduler = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
    beat = scheduler.get("heartbeat_at")
    return Operations(
        people=await footfall.summary(here.redis, zone=here.zone, now=now),
        orders=await order_store.counts(here.redis),
        queues=await run_in_threadpool(overview.queues, here.sync_redis, now),
        workers=await run_in_threadpool(overview.workers, here.sync_redis),
        breakers=await run_in_threadpool(breaker.states, here.sync_redis, now),
        dead_letters=dead_letters,
        suspended=bool(suspended),
        scheduler=scheduler.get("name", ""),
        epoch=int(scheduler.get("epoch", 0)),
        heartbeat_age_s=max(0.0, now - float(beat)) if beat else None,
        done={name: int(value) for name, value in sorted(scheduler.items()) if name not in NO_COUNTS},
        delayed=await run_in_threadpool(delayed.state, here.sync_redis),
        schedules=await run_in_threadpool(schedules.schedules, here.sync_redis, now),
        memory_bytes=memory["used_memory"],
        max_memory_bytes=memory.get("maxmemory", 0),
    )
