"""Jobs by name from programs that do not have the code: create, look at, cancel."""

import base64
import hashlib
from typing import Any

import msgspec
import redis

from jobs import keys
from jobs.errors import Conflict, NotFound
from jobs.queue import attempts
from jobs.queue.attempts import Attempt
from jobs.queue.calling import enqueue
from jobs.queue.job import Call
from jobs.queue.overview import instant
from jobs.queue.script import beside
from jobs.queue.task import by_name

CANCEL = beside(__file__, "cancel")
CANCELLED_TTL_S = 86_400


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
    result: Any = None
    error: str | None = None


def send(
    client: redis.Redis,
    task_name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    *,
    now: float,
    queue: str | None = None,
    due_at: float | None = None,
    unique_key: str | None = None,
) -> tuple[str, bool]:
    """Enqueues a job by its task's name; returns its id and whether it is new.

    With a `unique_key` there is one job per task and key for as long as Redis knows it. Raises UnknownTask, InvalidField.
    """
    wanted = by_name(task_name)
    job_id = None
    if unique_key is not None:
        digest = hashlib.sha256(f"{task_name}\n{unique_key}".encode()).hexdigest()
        job_id = f"unique-{digest[:32]}"
    job = wanted.spec(*args, job_id=job_id, now=now, queue=queue, **kwargs)
    return job.id, enqueue(client, job, now=now, due_at=due_at)


def get(client: redis.Redis, job_id: str) -> JobView:
    """One job. Raises NotFound."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(keys.job(job_id))
        pipeline.xrevrange(keys.results(job_id), count=1)
        pipeline.zscore(keys.SCHEDULED_JOBS, job_id)
        found, results, due_at = pipeline.execute()
    if not found:
        raise NotFound("job", job_id)
    text = {name.decode(): value.decode(errors="replace") for name, value in found.items()}
    if due_at is None and text.get("status") == "scheduled":
        due_at = client.zscore(keys.scheduled(text.get("origin", "")), job_id)
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
        result=_result(results),
        error=text.get("error") if text.get("status") == "failed" else None,
    )


def cancel(client: redis.Redis, job_id: str, now: float) -> JobView:
    """Cancels a job that has not started. Raises NotFound, or Conflict for one that has or that belongs to an order."""
    answer = CANCEL(client, [keys.job(job_id), keys.SCHEDULED_JOBS], [job_id, repr(now), CANCELLED_TTL_S]).decode()
    if answer == "unknown":
        raise NotFound("job", job_id)
    if answer == "owned":
        raise Conflict("the job belongs to an order or a buffer and cannot be cancelled alone; cancel the order instead")
    if answer not in ("cancelled", "canceled"):
        raise Conflict(f"the job is {answer} and cannot be cancelled", answer)
    return get(client, job_id)


def _result(results: list[tuple[bytes, dict[bytes, bytes]]]) -> Any:
    encoded = results[0][1].get(b"return_value") if results else None
    if encoded is None:
        return None
    try:
        return msgspec.json.decode(base64.b64decode(encoded))
    except (msgspec.MsgspecError, ValueError):
        return None
