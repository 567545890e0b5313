"""What operators do to workers: scale a pool, stop one, restart one. Each is noted in the audit trail."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import redis
from rq.command import send_shutdown_command

from jobs.errors import Conflict, NotFound, UnknownPool
from jobs.queue import audit, overview, pools
from jobs.queue.overview import WorkerInfo
from jobs.queue.remote import send_restart
from jobs.setting_values import Range


class PoolScale(msgspec.Struct, frozen=True):
    """The range that was set for a pool, null where each worker's own settings hold, and its live workers."""

    pool: str
    min: int | None
    max: int | None
    workers: int


def pool_scales(client: redis.Redis, workers: Sequence[WorkerInfo]) -> list[PoolScale]:
    """The pools of these workers, and those that a range was set for, by name."""
    ranges, live = pools.ranges(client), Counter(worker.pool for worker in workers if worker.pool)
    return [_scale(pool, ranges.get(pool), live[pool]) for pool in sorted(ranges.keys() | live)]


def _scale(pool: str, wanted: Range | None, live: int) -> PoolScale:
    return PoolScale(pool, wanted.min if wanted else None, wanted.max if wanted else None, live)


def scale(client: redis.Redis, pool: str, wanted: Range | None, *, by: str) -> PoolScale:
    """From now on each worker of the pool runs `min` to `max` jobs at once; None: what its own settings say.

    Workers follow with their next heartbeat, also those that start later. Raises UnknownPool.
    """
    live = {known.pool: known.workers for known in pool_scales(client, overview.workers(client))}
    if pool not in live:
        raise UnknownPool("pool", pool, ", ".join(live) or "none")
    pools.scale(client, pool, wanted)
    audit.record(client, f"scale pool to {wanted or 'its default'}", who=by, target=pool)
    return _scale(pool, wanted, live[pool])


def stop(client: redis.Redis, name: str, *, by: str) -> None:
    """The worker finishes what it runs, hands the rest back and exits. Raises NotFound."""
    _live(client, name)
    send_shutdown_command(client, name)
    audit.record(client, "stop worker", who=by, target=name)


def restart(client: redis.Redis, name: str, *, by: str) -> None:
    """As a stop, then the same command begins anew in the same process. Raises NotFound, Conflict."""
    if _live(client, name).kind == overview.STOCK:
        raise Conflict("a stock worker knows no restart: stop it, and whatever watches it starts another one", "stock")
    send_restart(client, name)
    audit.record(client, "restart worker", who=by, target=name)


def _live(client: redis.Redis, name: str) -> WorkerInfo:
    for worker in overview.workers(client):
        if worker.name == name:
            return worker
    raise NotFound("worker", name)
