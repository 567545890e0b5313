"""/v1/jobs, /v1/queues, /v1/workers, /v1/schedules: the queue for programs and operators."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import msgspec
from rq.command import send_shutdown_command
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from jobs.errors import InvalidField, NotFound
from jobs.queue import job_store, overview, schedules
from jobs.queue.job import QUEUE_NAME
from jobs.queue.job_store import JobView
from jobs.queue.overview import QueueInfo, WorkerInfo
from web.admission import Kind
from web.api_orders import CURSOR, LIMIT
from web.audit import audit
from web.http import answer, known_query, page_limit, read_body, read_json
from web.operation import Operation
from web.problems import problem
from web.state import state

MAX_AHEAD_S = 366 * 86_400.0


class JobRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/jobs. `at` is RFC 3339; at most one of `countdown_s` and `at`."""

    task: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    queue: str | None = None
    countdown_s: float | None = None
    at: datetime | None = None
    unique_key: str | None = None


class JobCreated(msgspec.Struct, frozen=True):
    """The job; `created` is false when a job with this unique_key existed already."""

    id: str
    created: bool


class QueueList(msgspec.Struct, frozen=True):
    """All queues."""

    queues: list[QueueInfo]


class WorkerList(msgspec.Struct, frozen=True):
    """All live workers."""

    workers: list[WorkerInfo]


class QueueAction(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was done to a queue. A purge keeps jobs that belong to an order or a buffer."""

    queue: str
    action: str
    purged: int = 0
    kept: int = 0


class Requested(msgspec.Struct, frozen=True):
    """A request that was passed on."""

    target: str
    action: str


async def post_job(request: Request) -> Response:
    """Enqueues a job by its task's name."""
    body = await read_json(request, JobRequest)
    here, now = state(request), time.time()
    due_at = _due_at(body, now)
    if body.queue is not None and not QUEUE_NAME.fullmatch(body.queue):
        raise InvalidField("queue", "letters, digits, '_', '-' and '.', at most 64")
    here.admission.check(Kind.JOBS)

    def send() -> tuple[str, bool]:
        return job_store.send(
            here.sync_redis,
            body.task,
            body.args,
            body.kwargs,
            now=now,
            queue=body.queue,
            due_at=due_at,
            unique_key=body.unique_key,
        )

    job_id, created = await run_in_threadpool(send)
    return answer(JobCreated(job_id, created), 202, {"Location": f"/v1/jobs/{job_id}"})


def _due_at(body: JobRequest, now: float) -> float | None:
    if body.countdown_s is not None and body.at is not None:
        raise InvalidField("at", "give either countdown_s or at, not both")
    if body.countdown_s is not None:
        if not 0 <= body.countdown_s <= MAX_AHEAD_S:
            raise InvalidField("countdown_s", f"must lie between 0 and {MAX_AHEAD_S:g}")
        return now + body.countdown_s if body.countdown_s else None
    if body.at is None:
        return None
    if body.at.tzinfo is None:
        raise InvalidField("at", "needs an offset, as in 2026-11-21T10:15:00Z")
    if body.at.timestamp() > now + MAX_AHEAD_S:
        raise InvalidField("at", "lies more than a year ahead")
    return body.at.timestamp() if body.at.timestamp() > now else None


async def get_job(request: Request) -> Response:
    """One job with its result and its attempts."""
    return answer(await run_in_threadpool(job_store.get, state(request).sync_redis, request.path_params["id"]))


async def delete_job(request: Request) -> Response:
    """Cancels a job that has not started."""
    job_id = request.path_params["id"]
    job = await run_in_threadpool(job_store.cancel, state(request).sync_redis, job_id, time.time())
    await audit(request, "cancel job", job_id)
    return answer(job)


async def get_queues(request: Request) -> Response:
    """Every queue: depth, age, rates, failures."""
    return answer(QueueList(await run_in_threadpool(overview.queues, state(request).sync_redis, time.time())))


async def queue_action(request: Request) -> Response:
    """Pauses, resumes or purges a queue."""
    name, action, client = request.path_params["name"], request.path_params["action"], state(request).sync_redis
    await read_body(request)
    if action not in ("pause", "resume", "purge"):
        raise NotFound("action on a queue", action)
    if name not in await run_in_threadpool(overview.queue_names, client):
        raise NotFound("queue", name)
    done = QueueAction(name, action)
    if action == "purge":
        purged, kept = await run_in_threadpool(overview.purge, client, name)
        done = QueueAction(name, action, purged, kept)
    else:
        await run_in_threadpool(overview.pause if action == "pause" else overview.resume, client, name)
    await audit(request, f"{action} queue", name)
    return answer(done)


async def get_workers(request: Request) -> Response:
    """Every live worker."""
    return answer(WorkerList(await run_in_threadpool(overview.workers, state(request).sync_redis)))


async def stop_worker(request: Request) -> Response:
    """Asks a worker to finish its job and exit."""
    name, client = request.path_params["name"], state(request).sync_redis
    if name not in [worker.name for worker in await run_in_threadpool(overview.workers, client)]:
        raise NotFound("worker", name)
    await run_in_threadpool(send_shutdown_command, client, name)
    await audit(request, "stop worker", name)
    return answer(Requested(name, "stop"), 202)


async def scale_workers(request: Request) -> Response:
    """Said plainly: a worker of this version runs one job at a time."""
    detail = "a worker process runs one job at a time: start more processes of the Procfile's line, or stop one by name"
    return problem(request, 501, detail)


async def get_schedules(request: Request) -> Response:
    """The periodic jobs."""
    found = await run_in_threadpool(schedules.schedules, state(request).sync_redis, time.time())
    return answer({"schedules": found})


async def run_schedule(request: Request) -> Response:
    """Runs a periodic job now, besides its schedule."""
    name = request.path_params["name"]
    job_id = await run_in_threadpool(schedules.run_now, state(request).sync_redis, name, time.time())
    await audit(request, "run schedule", name)
    return answer(JobCreated(job_id, created=True), 202, {"Location": f"/v1/jobs/{job_id}"})


async def get_scheduled(request: Request) -> Response:
    """The delayed jobs, the next one due first."""
    known_query(request, "cursor", "limit")
    found = await run_in_threadpool(
        schedules.delayed, state(request).sync_redis, page_limit(request), request.query_params.get("cursor")
    )
    return answer(found)


OPERATIONS = (
    Operation(
        "POST",
        "/v1/jobs",
        post_job,
        "Enqueue a job by its task's name, without having its code.",
        request=JobRequest,
        response=JobCreated,
        status=202,
        errors=(400, 404, 413, 422, 503),
    ),
    Operation("GET", "/v1/jobs/{id}", get_job, "A job with result and attempts.", response=JobView, errors=(404, 503)),
    Operation(
        "DELETE", "/v1/jobs/{id}", delete_job, "Cancel a job that has not started.", response=JobView, errors=(404, 409, 503)
    ),
    Operation(
        "GET",
        "/v1/queues",
        get_queues,
        "Queues: depth, age of the oldest ready job, rates, failures.",
        response=QueueList,
        errors=(503,),
    ),
    Operation(
        "POST",
        "/v1/queues/{name}/{action}",
        queue_action,
        "Pause, resume or purge a queue. A purge keeps jobs that belong to an order or a buffer.",
        response=QueueAction,
        errors=(404, 503),
    ),
    Operation("GET", "/v1/workers", get_workers, "Live workers.", response=WorkerList, errors=(503,)),
    Operation(
        "POST",
        "/v1/workers/{name}/stop",
        stop_worker,
        "Ask a worker to finish its job and exit.",
        response=Requested,
        status=202,
        errors=(404, 503),
    ),
    Operation("POST", "/v1/workers/{pool}/scale", scale_workers, "Not in this version: answers 501.", status=501, errors=()),
    Operation("GET", "/v1/schedules", get_schedules, "Periodic jobs with last and next run.", errors=(503,)),
    Operation(
        "POST",
        "/v1/schedules/{name}/run",
        run_schedule,
        "Run a periodic job now.",
        response=JobCreated,
        status=202,
        errors=(404, 503),
    ),
    Operation("GET", "/v1/scheduled", get_scheduled, "Delayed jobs.", errors=(422, 503), parameters=(CURSOR, LIMIT)),
)
