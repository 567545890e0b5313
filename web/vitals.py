"""The vital signs that belong to no queue: the scheduler's heartbeat, Redis' memory, dead letters, a global suspension."""

from __future__ import annotations

from dataclasses import dataclass

import redis

from jobs import keys

MAX_HEARTBEAT_AGE_S = 10.0
NO_COUNTS = frozenset({"heartbeat_at", "name", "pid"})


@dataclass(frozen=True, slots=True)
class Vitals:
    """`heartbeat_age_s` is None when no scheduler ever led; `done` counts what schedulers did: promoted, reclaimed, ...;
    `max_memory_bytes` is 0 without a limit."""

    heartbeat_age_s: float | None
    scheduler: str
    done: dict[str, int]
    memory_bytes: int
    max_memory_bytes: int
    dead_letters: int
    suspended: bool

    @property
    def scheduler_up(self) -> bool:
        """Whether a scheduler leads."""
        return self.heartbeat_age_s is not None and self.heartbeat_age_s <= MAX_HEARTBEAT_AGE_S


def vitals(client: redis.Redis, now: float) -> Vitals:
    """Reads them in one round trip."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(keys.SCHEDULER)
        pipeline.info("memory")
        pipeline.zcard(keys.DEAD)
        pipeline.exists(keys.SUSPENDED)
        fields, memory, dead, suspended = pipeline.execute()
    text = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
    beat = text.get("heartbeat_at")
    return Vitals(
        heartbeat_age_s=max(0.0, now - float(beat)) if beat else None,
        scheduler=text.get("name", ""),
        done={name: int(value) for name, value in sorted(text.items()) if name not in NO_COUNTS},
        memory_bytes=int(memory["used_memory"]),
        max_memory_bytes=int(memory.get("maxmemory", 0)),
        dead_letters=int(dead),
        suspended=bool(suspended),
    )
