"""A worker among the others: what RQ's tools and the operations page see of it, its leases, and what it is told in return.

All of it is one script a second. A worker is enrolled by its first heartbeat, and again by the next one after Redis lost it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import redis

from jobs import keys
from jobs.queue.clock import Clock
from jobs.queue.overview import instant
from jobs.queue.pools import pool_name, readable
from jobs.queue.priorities import served
from jobs.queue.script import Argument, beside
from jobs.setting_values import Range

HEARTBEAT = beside(__file__, "heartbeat")


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a heartbeat answered. `lost`: members whose lease is somebody else's now; `wanted`: what an operator gave the pool."""

    lost: frozenset[str]
    oldest_age_s: float
    wanted: Range | None
    server_now: float
    suspended: bool


class Registration:
    """One worker's entry. `fields` are those of its hash that never change; one that is None is left out."""

    def __init__(
        self, worker_name: str, queues: Sequence[str], fields: Mapping[str, str | int | None], clock: Clock | None = None
    ) -> None:
        self.clock = clock or Clock()
        self._key = keys.worker(worker_name)
        self._pool = pool_name(queues)
        self._fields = {name: value for name, value in fields.items() if value is not None and name != "last_heartbeat"} | {
            "pool": self._pool,
            "death": "",
        }
        self._sets = [keys.workers(queue) for queue in queues]
        self._served = [keys.queue(name) for name in dict.fromkeys(name for queue in queues for name in served(queue))]

    def beat(
        self,
        client: redis.Redis,
        *,
        leases: Mapping[str, Sequence[str]],
        lease_s: float,
        state: str,
        current_job: str | None,
        size: int,
        within: Range,
        busy: int,
        memory_bytes: int,
    ) -> Pulse:
        """One heartbeat. `leases`: queue -> members of rq:wip that are renewed for `lease_s`; raises what redis-py raises."""
        fields: dict[str, Argument] = {**self._fields, "state": state, "current_job": current_job or "", "size": size}
        fields |= {"min": within.min, "max": within.max, "busy": busy, "memory_bytes": memory_bytes}
        places = [self._key, keys.WORKERS, keys.SUSPENDED, keys.POOLS, *self._sets, *self._served]
        args: list[Argument] = [repr(lease_s), self._pool, len(self._sets), len(self._served)]
        for queue, members in leases.items():
            places.append(keys.wip(queue))
            args += [len(members), *members]
        for name, value in fields.items():
            args += [name, value]
        sent_at = self.clock.local()
        now, lost, oldest, wanted, suspended = HEARTBEAT(client, places, args)
        server_now, since = float(now), instant(oldest.decode(errors="replace"))
        self.clock.learn(server_now, sent_at, self.clock.local())
        age_s = max(0.0, server_now - since) if since else 0.0
        return Pulse(frozenset(map(bytes.decode, lost)), age_s, readable(wanted), server_now, bool(suspended))

    def leave(self, client: redis.Redis) -> None:
        """Takes the worker out; it only frees memory, so that no full one keeps the entry."""
        with client.pipeline(transaction=True) as pipeline:
            for members in (keys.WORKERS, *self._sets):
                pipeline.srem(members, self._key)
            pipeline.delete(self._key)
            pipeline.execute()
