"""Jobs as their senders and operators see them: look at, cancel."""

import base64
from typing import Any

import msgspec
import redis
import redis.asyncio

from jobs import crash_points, keys
from jobs.errors import Conflict, NotFound
from jobs.queue import attempts, canvas_effects, progress
from jobs.queue.attempts import Attempt
from jobs.queue.hooks import add_effects
from jobs.queue.job import CANCELLED_TTL_S, Call
from jobs.queue.overview import instant
from jobs.queue.progress import Progress
from jobs.queue.script import beside

CANCEL = beside(__file__, "cancel")
OWNED = (
    "the job belongs to an order or a buffer and cannot be cancelled or rescheduled alone; "
    "cancel the order instead (POST /v1/orders/{id}/cancel)"
)
DEFINITION = "it stands for a periodic job and never runs itself: pause the periodic one (POST /v1/schedules/{name}/pause)"


class JobView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job as the API shows it. `status` is RQ's, instants are Unix seconds, `attempts` those that failed."""

    id: str
    task: str
    queue: str
    status: str
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    created_at: float
    attempts: list[Attempt]
    crashes: int = 0
    enqueued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    due_at: float | None = None
    worker: str | None = None
    progress: Progress | None = None
    result: Any = None
    error: str | None = None
    reason: str | None = None


def get(client: redis.Redis, job_id: str) -> JobView:
    """One job. Raises NotFound."""
    with client.pipeline(transaction=False) as pipeline:
        _ask(pipeline, job_id)
        found, results, due_at = pipeline.execute()
    if due_at is None and found.get(b"status") == b"scheduled":
        due_at = client.zscore(keys.scheduled(found.get(b"origin", b"").decode(errors="replace")), job_id)
    return _view(job_id, found, results, due_at)


async def get_async(client: redis.asyncio.Redis, job_id: str) -> JobView:
    """The async twin of `get`."""
    async with client.pipeline(transaction=False) as pipeline:
        _ask(pipeline, job_id)
        found, results, due_at = await pipeline.execute()
    if due_at is None and found.get(b"status") == b"scheduled":
        due_at = await client.zscore(keys.scheduled(found.get(b"origin", b"").decode(errors="replace")), job_id)
    return _view(job_id, found, results, due_at)


def _ask(pipeline: redis.client.Pipeline | redis.asyncio.client.Pipeline, job_id: str) -> None:
    pipeline.hgetall(keys.job(job_id))
    pipeline.xrevrange(keys.results(job_id), count=1)
    pipeline.zscore(keys.SCHEDULED_JOBS, job_id)


def _view(
    job_id: str, found: dict[bytes, bytes], results: list[tuple[bytes, dict[bytes, bytes]]], due_at: float | None
) -> JobView:
    if not found:
        raise NotFound("job", job_id)
    text = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in found.items()}
    try:
        call: Call | None = Call.decode(found.get(b"data", b""))
    except ValueError:
        call = None
    return JobView(
        id=job_id,
        task=text.get("task") or (call.path if call else "unreadable"),
        queue=text.get("origin", ""),
        status=text.get("status", ""),
        args=list(call.args) if call else None,
        kwargs=dict(call.kwargs) if call else None,
        created_at=instant(text.get("created_at")),
        attempts=attempts.read(found.get(b"attempts", b"")),
        crashes=int(text.get("crashes", 0)),
        enqueued_at=instant(text.get("enqueued_at")) or None,
        started_at=instant(text.get("started_at")) or None,
        ended_at=instant(text.get("ended_at")) or None,
        due_at=due_at,
        worker=text.get("worker_name") or None,
        progress=progress.read(text.get("progress"), text.get("status", ""), instant(text.get("started_at"))),
        result=_result(results),
        error=text.get("error") if text.get("status") == "failed" else None,
        reason=text.get("reason") if text.get("status") == "canceled" else None,
    )


def cancel(client: redis.Redis, job_id: str, now: float) -> JobView:
    """Cancels a job that has not started. Raises NotFound, or Conflict for one that has or that belongs to an order."""
    member = client.hmget(keys.job(job_id), "origin", "canvas")
    with client.pipeline(transaction=True) as pipeline:
        _add_cancel(pipeline, job_id, now, *member)
        _check_cancelled(job_id, pipeline.execute()[0].decode())
    return get(client, job_id)


async def cancel_async(client: redis.asyncio.Redis, job_id: str, now: float) -> JobView:
    """The async twin of `cancel`."""
    member = await client.hmget(keys.job(job_id), "origin", "canvas")
    async with client.pipeline(transaction=True) as pipeline:
        _add_cancel(pipeline, job_id, now, *member)
        _check_cancelled(job_id, (await pipeline.execute())[0].decode())
    return await get_async(client, job_id)


def _add_cancel(
    pipeline: redis.client.Pipeline | redis.asyncio.client.Pipeline,
    job_id: str,
    now: float,
    origin: bytes | None,
    canvas: bytes | None,
) -> None:
    crash_points.reach("revoke.read")
    CANCEL.in_multi(pipeline, [keys.job(job_id), keys.SCHEDULED_JOBS], [job_id, repr(now), CANCELLED_TTL_S])
    effects = canvas_effects.ended((canvas or b"").decode(), "cancelled", "by an operator", now)
    add_effects(pipeline, effects, keys.canceled((origin or b"").decode()), job_id)


def _check_cancelled(job_id: str, answer: str) -> None:
    crash_points.reach("revoke.written")
    if answer == "unknown":
        raise NotFound("job", job_id)
    if answer == "owned":
        raise Conflict(OWNED)
    if answer == "periodic":
        raise Conflict(DEFINITION)
    if answer not in ("cancelled", "canceled"):
        raise Conflict(f"the job is {answer} and cannot be cancelled", answer)


def _result(results: list[tuple[bytes, dict[bytes, bytes]]]) -> Any:
    encoded = results[0][1].get(b"return_value") if results else None
    if encoded is None:
        return None
    try:
        return msgspec.json.decode(base64.b64decode(encoded))
    except (msgspec.MsgspecError, ValueError):
        return None
