"""What a system that has come to rest holds, as plain data: read from Redis, from the API, and from the carrier's log."""

import re
import time
from collections.abc import Iterable
from typing import Any

import httpx
import invariants
import msgspec
import redis
from history import Op
from ledger import Ledger

from jobs import connections, keys
from jobs.commands.doctor import examined
from jobs.mall.orders import Status, decode_lines, quantities
from jobs.queue import attempts, canvas_store, job_store
from jobs.queue.attempts import Attempt
from jobs.queue.canvas_store import CanvasView
from jobs.queue.orphans import Walk
from jobs.queue.schedules import Run

STOCK_WORKER = re.compile(r"[0-9a-f]{32}")
"""The names of unmodified `rq.Worker`s. One of them has no fence: stopped past its lease, it writes once more."""
PLANNED = "Planned"
AWAY = ("ConnectionError", "TimeoutError", "ReadOnlyError", "OutOfMemoryError")
"""What redis-py raises while Redis is away, read-only or full."""
KEPT_S = 7_200
ENVIRON = {"TURNSTILE_SAMPLES": "1", "TURNSTILE_RESULT_TTL_S": str(KEPT_S)}
"""What the processes need so that their jobs can be called, and looked at when the run is over."""
REST_S = 120.0
A_PERIODIC_JOB_S = 10.0
"""Time for one that began after everything else had ended."""
PAUSE_S = 0.2
MINUTE_S = 60


class OrderEnd(msgspec.Struct, frozen=True):
    """An order at the end. `listed`: the statuses whose index it stands in."""

    reference: str
    status: str
    listed: tuple[str, ...]
    quantities: dict[str, int]
    tracking_number: str = ""
    reserved: str = ""
    dead_job: str = ""


class JobEnd(msgspec.Struct, frozen=True):
    """A job at the end. `wrote`: the worker of each result that was written; `failed`: the error of each attempt that failed,
    but for those that a stock worker burned."""

    status: str
    wrote: tuple[str, ...] = ()
    result: object = None
    failed: tuple[str, ...] = ()
    error_type: str = ""


class Fire(msgspec.Struct, frozen=True):
    """One run of a periodic job; instants are 0 when it did not come so far."""

    name: str
    fire_at: float
    started_at: float = 0.0
    ended_at: float = 0.0


class Final(msgspec.Struct, kw_only=True):
    """Everything. `counted` has people by `<gate> <minute>`, `effects` an order and a tracking number for each parcel.

    `leaks` are for the caller to fill in when all processes have been stopped; `max_connections` too, 0: not limited.
    """

    orders: dict[str, OrderEnd] = {}
    effects: list[tuple[str, str]] = []
    jobs: dict[str, JobEnd] = {}
    canvases: dict[str, CanvasView] = {}
    counted: dict[str, int] = {}
    accepted_events: int = 0
    counted_events: int = 0
    stock: dict[str, dict[str, int]] = {}
    dead: set[str] = set()
    fires: list[Fire] = []
    under_way: list[str] = []
    orphans: list[str] = []
    leaks: list[str] = []
    connections: int = 0
    max_connections: int = 0


def settle(client: redis.Redis, limit_s: float = REST_S) -> list[str]:
    """Waits until nothing is under way or left over for the scheduler; returns what still is under way after the limit."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            left = invariants.under_way(client)
            rests = not left and not orphans(client)
        except redis.exceptions.RedisError as error:
            if not connections.is_away(error):
                raise
            left, rests = [repr(error)], False
        if rests or time.monotonic() > deadline:
            return left
        time.sleep(PAUSE_S)


def orphans(client: redis.Redis) -> list[str]:
    """What the doctor finds, as `kind: target`."""
    return [f"{finding.kind.name}: {finding.target}" for finding in examined(client, Walk())]


def observe(ledger: Ledger, client: redis.Redis, web_url: str, carrier_url: str, patience_s: float = A_PERIODIC_JOB_S) -> Final:
    """The state of a system at rest, to which it may return for `patience_s`; the ledger says what to look for."""
    with httpx.Client(trust_env=False, timeout=60) as http:
        parcels = _get(http, f"{carrier_url}/shipments")["shipments"]
        counted = _counted(http, web_url, ledger)
    accepted, all_counted = (int(n or 0) for n in client.hmget(keys.ENTRIES, "accepted", "counted"))
    job_ids = {told.answer for op in (Op.JOB, Op.ITEM) for told in ledger.told[op].values() if told.answer}
    canvases = (told.answer for told in ledger.told[Op.CANVAS].values() if told.answer)
    skus = ledger.told[Op.STOCK]
    return Final(
        orders=_orders(client),
        effects=[(parcel["shipment"]["order_id"], parcel["tracking_number"]) for parcel in parcels],
        jobs=_jobs(client, job_ids),
        canvases={i: canvas_store.get(client, i) for i in canvases if client.exists(keys.canvas(i))},
        counted=counted,
        accepted_events=accepted,
        counted_events=all_counted,
        stock={sku: {n.decode(): int(v) for n, v in client.hgetall(keys.STOCK_PREFIX + sku).items()} for sku in skus},
        dead={job_id.decode() for job_id in client.zrange(keys.DEAD, 0, -1)},
        fires=_fires(client),
        under_way=settle(client, patience_s),
        orphans=orphans(client),
        connections=len(client.client_list()),
    )


def _orders(client: redis.Redis) -> dict[str, OrderEnd]:
    listed: dict[str, list[str]] = {}
    for status in Status:
        for order_id in client.zrange(keys.STATUS_PREFIX + status.value, 0, -1):
            listed.setdefault(order_id.decode(), []).append(status.value)
    return {
        order_id: OrderEnd(
            fields.get("reference", ""),
            fields.get("status", ""),
            tuple(listed.get(order_id, ())),
            quantities(decode_lines(fields["lines"])) if "lines" in fields else {},
            fields.get("tracking_number", ""),
            fields.get("reserved", ""),
            fields.get("dead_job", ""),
        )
        for order_id, fields in invariants.orders(client).items()
    }


def _jobs(client: redis.Redis, ids: Iterable[str]) -> dict[str, JobEnd]:
    found: dict[str, JobEnd] = {}
    for job_id in ids:
        with client.pipeline(transaction=True) as pipeline:
            pipeline.hmget(keys.job(job_id), "status", "attempts", "error_type")
            pipeline.xrange(keys.results(job_id))
            (status, tried, error_type), results = pipeline.execute()
        if status is not None:
            wrote = tuple(written.get(b"worker_name", b"").decode() for _id, written in results)
            failed = tuple(attempt.error_type for attempt in attempts.read(tried or b"") if not _burned(attempt))
            result = job_store.get(client, job_id).result
            found[job_id] = JobEnd(status.decode(), wrote, result, failed, (error_type or b"").decode())
    return found


def _burned(attempt: Attempt) -> bool:
    """Whether it says nothing of us: an unmodified `rq.Worker` charges the job for what happens to itself, and a job whose own
    code asks Redis fails when it loses that."""
    by_stock = STOCK_WORKER.fullmatch(attempt.worker) is not None
    return attempt.error_type in AWAY or (by_stock and attempt.error_type != PLANNED)


def _counted(http: httpx.Client, web_url: str, ledger: Ledger) -> dict[str, int]:
    told = [told for op in (Op.ENTRY, Op.ENTRIES) for told in ledger.told[op].values()]
    if not told:
        return {}
    span = {"from": f"{min(t.minute for t in told)}:00Z", "to": _rfc3339(time.time() + MINUTE_S), "bucket": "minute"}
    counted: dict[str, int] = {}
    for gate in {t.gate for t in told}:
        series = _get(http, f"{web_url}/v1/footfall", {**span, "gate": gate})
        counted |= {f"{gate} {bucket['start'][:16]}": bucket["in"] for bucket in series["buckets"]}
    return counted


def _get(http: httpx.Client, url: str, query: dict[str, str] | None = None) -> Any:
    """Asks until it is told; a busy machine may make the web think that Redis is away."""
    deadline = time.monotonic() + REST_S
    while True:
        try:
            response = http.get(url, params=query)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                return response.raise_for_status().json()
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_S)


def _fires(client: redis.Redis) -> list[Fire]:
    fires = []
    for name in client.smembers(keys.PERIODIC):
        for text in client.lrange(keys.periodic_runs(name.decode()), 0, -1):
            run = msgspec.json.decode(text, type=Run)
            fires.append(Fire(name.decode(), run.fire_at, run.started_at or 0.0, run.ended_at or 0.0))
    return fires


def _rfc3339(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
