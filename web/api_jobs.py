"""/v1/jobs, /v1/queues, /v1/schedules: the queue for programs and operators."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec
from rq.command import send_command
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from jobs.errors import Conflict, InvalidField, NotFound
from jobs.queue import catalogue, job_store, overview, schedules
from jobs.queue.calling import place_async
from jobs.queue.job import unique_id
from jobs.queue.job_store import JobView
from jobs.queue.options import Priority
from jobs.queue.overview import QueueInfo
from jobs.queue.schedules import DelayedPage, Schedule
from jobs.queue.watching import changes
from web.admission import Kind
from web.audit import Done, audit
from web.http import PAGE, PING_S, answer, call, paging, read_body, read_json
from web.operation import Operation
from web.state import State, state

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
    priority: Priority | None = None
    expires_s: float | None = None


class JobCreated(msgspec.Struct, frozen=True):
    """The job; `created` is false when a job with this unique_key existed already."""

    id: str
    created: bool


class Gone(msgspec.Struct, frozen=True):
    """The last event of a job that ended and kept no result."""

    id: str
    status: str = "gone"


class QueueList(msgspec.Struct, frozen=True):
    """All queues."""

    queues: list[QueueInfo]


class ScheduleList(msgspec.Struct, frozen=True):
    """All periodic jobs."""

    schedules: list[Schedule]


async def post_job(request: Request) -> Response:
    """Enqueue a job by its task's name, without having its code."""
    body = await read_json(request, JobRequest)
    now = time.time()
    due_at = _due_at(body, now)
    state(request).admission.check(Kind.JOBS)
    options = {name: getattr(body, name) for name in ("queue", "priority", "expires_s") if getattr(body, name) is not None}
    client = state(request).redis
    task = await catalogue.find_async(client, body.task)
    job_id = None if body.unique_key is None else unique_id(task.name, body.unique_key)
    job = task.build(task.options(**options).defaults, body.args, body.kwargs, job_id=job_id, now=now, due_at=due_at)
    job_id, created = await place_async(client, job, now=now, due_at=due_at)
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
    """A job with result and attempts."""
    return answer(await job_store.get_async(state(request).redis, request.path_params["id"]))


async def job_events(request: Request) -> Response:
    """The job when it changes (server-sent event `status`) and what it reports (`progress`), until it has ended."""
    here, job_id = state(request), request.path_params["id"]
    await job_store.get_async(here.redis, job_id)  # an unknown job is a 404, not an empty stream
    return EventSourceResponse(_follow(here, job_id), ping=PING_S)


async def _follow(here: State, job_id: str) -> AsyncIterator[ServerSentEvent]:
    state_before, reported = None, None
    async with aclosing(changes(here.redis, job_id)) as looks:
        async for seen in looks:
            if seen.progress is not None and seen.progress != reported:
                reported = seen.progress
                yield ServerSentEvent(msgspec.json.encode(reported).decode(), event="progress")
            if (seen.status, seen.failures) != state_before:
                state_before = seen.status, seen.failures
                yield ServerSentEvent(msgspec.json.encode(await _shown(here, job_id)).decode(), event="status")


async def _shown(here: State, job_id: str) -> JobView | Gone:
    try:
        return await job_store.get_async(here.redis, job_id)
    except NotFound:
        return Gone(job_id)


async def delete_job(request: Request) -> Response:
    """Cancel a job that has not started."""
    job_id = request.path_params["id"]
    job = await call(request, job_store.cancel, job_id, time.time())
    await audit(request, "cancel job", job_id)
    return answer(job)


async def stop_job(request: Request) -> Response:
    """Interrupt a running job where it is: it becomes a dead letter, without a retry."""
    job_id = request.path_params["id"]
    await read_body(request)
    job = await job_store.get_async(state(request).redis, job_id)
    if job.status != "started" or job.worker is None:
        raise Conflict(f"the job is {job.status}, only a running one can be stopped", job.status)
    await call(request, send_command, job.worker, "stop-job", job_id=job_id)
    await audit(request, "stop job", job_id)
    return answer(Done(job_id, "stop"), 202)


async def get_queues(request: Request) -> Response:
    """Queues: depth, age of the oldest ready job, rates, failures."""
    return answer(QueueList(await call(request, overview.queues, time.time())))


async def queue_action(request: Request) -> Response:
    """Pause, resume or purge a queue. A purge keeps jobs that belong to an order or a buffer."""
    name, action = request.path_params["name"], request.path_params["action"]
    await read_body(request)
    if action not in ("pause", "resume", "purge"):
        raise NotFound("action on a queue", action)
    if name not in await call(request, overview.queue_names):
        raise NotFound("queue", name)
    purged = kept = 0
    if action == "purge":
        purged, kept = await call(request, overview.purge, name)
    else:
        await call(request, overview.pause if action == "pause" else overview.resume, name)
    await audit(request, f"{action} queue", name)
    return answer(Done(name, action, purged, kept))


async def get_schedules(request: Request) -> Response:
    """Periodic jobs with last and next run."""
    return answer(ScheduleList(await call(request, schedules.schedules, time.time())))


async def run_schedule(request: Request) -> Response:
    """Run a periodic job now, besides its schedule."""
    name = request.path_params["name"]
    job_id = await call(request, schedules.run_now, name, time.time())
    await audit(request, "run schedule", name)
    return answer(JobCreated(job_id, created=True), 202, {"Location": f"/v1/jobs/{job_id}"})


async def get_scheduled(request: Request) -> Response:
    """Delayed jobs, the next one due first."""
    return answer(await call(request, schedules.delayed, **paging(request)))


OPERATIONS = (
    Operation("POST", "/v1/jobs", post_job, request=JobRequest, response=JobCreated, status=202, also=(404,)),
    Operation("GET", "/v1/jobs/{id}", get_job, response=JobView),
    Operation("GET", "/v1/jobs/{id}/events", job_events, response_media_types=("text/event-stream",)),
    Operation("DELETE", "/v1/jobs/{id}", delete_job, response=JobView, also=(409,)),
    Operation("POST", "/v1/jobs/{id}/stop", stop_job, response=Done, status=202, also=(409,)),
    Operation("GET", "/v1/queues", get_queues, response=QueueList),
    Operation("POST", "/v1/queues/{name}/{action}", queue_action, response=Done),
    Operation("GET", "/v1/schedules", get_schedules, response=ScheduleList),
    Operation("POST", "/v1/schedules/{name}/run", run_schedule, response=JobCreated, status=202, also=(409,)),
    Operation("GET", "/v1/scheduled", get_scheduled, response=DelayedPage, parameters=PAGE),
)
