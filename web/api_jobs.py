"""/v1/jobs, /v1/queues: the queue for programs and operators."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from rq.command import send_command
from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from jobs.errors import Conflict, NotFound
from jobs.queue import catalogue, job_store, overview
from jobs.queue.calling import place_async
from jobs.queue.job import unique_id
from jobs.queue.job_store import JobView
from jobs.queue.options import MAX_S, Priority
from jobs.queue.overview import QueueInfo
from jobs.queue.watching import ENDED, changes
from jobs.setting_values import QUEUE_NAME
from web.admission import Kind
from web.audit import Done, audit
from web.due import NOT_BOTH, Countdown, Instant, due_at
from web.http import answer, call, read_body, read_json
from web.operation import Operation, said
from web.state import State, state
from web.streams import LAST_SEEN, event_stream, no_more_events


class JobRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/jobs. `at` is RFC 3339; at most one of `countdown_s` and `at`."""

    task: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    queue: Annotated[str, said(pattern=f"^{QUEUE_NAME.pattern}$")] | None = None
    countdown_s: Countdown | None = None
    at: Instant | None = None
    unique_key: str | None = None
    priority: Priority | None = None
    expires_s: Annotated[float, said(exclusiveMinimum=0, maximum=MAX_S)] | None = None


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


async def post_job(request: Request) -> Response:
    """Enqueue a job by its task's name, without having its code."""
    body = await read_json(request, JobRequest)
    now = time.time()
    due = due_at(body.countdown_s, body.at, now)
    here = state(request)
    options = {name: getattr(body, name) for name in ("queue", "priority", "expires_s") if getattr(body, name) is not None}

    async def place() -> tuple[str, bool]:
        task = await catalogue.find_async(here.redis, body.task)
        job_id = None if body.unique_key is None else unique_id(task.name, body.unique_key)
        job = task.build(task.options(**options).defaults, body.args, body.kwargs, job_id=job_id, now=now, due_at=due)
        return await place_async(here.redis, job, now=now, due_at=due)

    job_id, created = await here.admission.carry(Kind.JOBS, place)
    return answer(JobCreated(job_id, created), 202, {"Location": f"/v1/jobs/{job_id}"})


async def get_job(request: Request) -> Response:
    """A job with result and attempts."""
    return answer(await job_store.get_async(state(request).redis, request.path_params["id"]))


async def job_events(request: Request) -> Response:
    """The job when it changes (server-sent event `status`) and what it reports (`progress`), until it has ended;
    then 204 to who has seen its last."""
    here, job_id = state(request), request.path_params["id"]
    job = await job_store.get_async(here.redis, job_id)  # an unknown job is a 404, not an empty stream
    if job.status in ENDED and request.headers.get("last-event-id") == _edition(job):
        return no_more_events()
    return event_stream(_follow(here, job_id))


async def _follow(here: State, job_id: str) -> AsyncGenerator[ServerSentEvent, None]:
    state_before, reported = None, None
    async with aclosing(changes(here.redis, job_id)) as looks:
        async for seen in looks:
            if seen.progress is not None and seen.progress != reported:
                reported = seen.progress
                yield ServerSentEvent(msgspec.json.encode(reported).decode(), event="progress")
            if (seen.status, seen.failures) != state_before:
                state_before = seen.status, seen.failures
                shown = await _shown(here, job_id)
                yield ServerSentEvent(msgspec.json.encode(shown).decode(), event="status", id=_edition(shown))


def _edition(job: JobView | Gone) -> str:
    return "gone" if isinstance(job, Gone) else f"{job.status}-{job.ended_at or 0:.6f}"


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


OPERATIONS = (
    Operation(
        "POST",
        "/v1/jobs",
        post_job,
        request=Annotated[JobRequest, NOT_BOTH],
        response=JobCreated,
        status=202,
        also=(404,),
        headers=("Location",),
        links=(get_job, job_events, delete_job),
    ),
    Operation("GET", "/v1/jobs/{id}", get_job, response=JobView),
    Operation(
        "GET",
        "/v1/jobs/{id}/events",
        job_events,
        also=(204,),
        parameters=(LAST_SEEN,),
        response_media_types=("text/event-stream",),
    ),
    Operation("DELETE", "/v1/jobs/{id}", delete_job, response=JobView, also=(409,)),
    Operation("POST", "/v1/jobs/{id}/stop", stop_job, response=Done, status=202, also=(409,)),
    Operation("GET", "/v1/queues", get_queues, response=QueueList),
    Operation("POST", "/v1/queues/{name}/{action}", queue_action, response=Done),
)
