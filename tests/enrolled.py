"""Workers that are registered as ours and as stock ones are, without their processes."""

import time

import redis

from jobs import keys
from jobs.queue.registration import Registration
from jobs.setting_values import Range

LEASE_S = 60.0


def beat(
    client: redis.Redis,
    name: str,
    *queues: str,
    kind: str = "io",
    size: int = 8,
    busy: int = 0,
    within: Range | None = None,
    memory_bytes: int = 50 * 2**20,
) -> None:
    """One heartbeat of a worker of ours."""
    fields: dict[str, str | int | None] = {
        "queues": ",".join(queues),
        "kind": kind,
        "pid": 1,
        "hostname": "h",
        "birth": _iso(),
        "successful_job_count": 7,
    }
    Registration(name, queues, fields).beat(
        client,
        leases={},
        lease_s=LEASE_S,
        state="busy" if busy else "idle",
        current_job=None,
        size=size,
        within=within or Range(1, size),
        busy=busy,
        memory_bytes=memory_bytes,
    )


def stock(client: redis.Redis, name: str, **fields: str) -> None:
    """Registers a worker as RQ's workers do."""
    known = {"birth": _iso(), "last_heartbeat": _iso(), "queues": "default", "state": "idle", "hostname": "h", "pid": "1"}
    client.hset(keys.worker(name), mapping=known | fields)
    client.sadd(keys.WORKERS, keys.worker(name))


def _iso() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
