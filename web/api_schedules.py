"""/v1/schedules and /v1/scheduled: periodic jobs, and jobs that wait for their time."""

import time
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobs.errors import InvalidField, NotFound
from jobs.queue import delayed, schedules
from jobs.queue.delayed import DelayedPage
from jobs.queue.job_store import JobView
from jobs.queue.schedules import Action, Run, Schedule
from web.api_jobs import JobCreated
from web.audit import Done, who
from web.due import Countdown, Instant, due_at
from web.http import PAGE, answer, call, paging, read_body, read_json
from web.operation import Operation, Parameter, said

FILTERS = (
    Parameter("task", "only jobs of this task"),
    Parameter("queue", "only jobs of this queue"),
    Parameter("q", "text in id or description; a page that is not full may have a next one"),
)


class ScheduleList(msgspec.Struct, frozen=True):
    """All periodic jobs."""

    schedules: list[Schedule]


class ScheduleDetail(Schedule, frozen=True, kw_only=True):
    """One periodic job with its last runs, the newest first."""

    last_runs: list[Run]


class RescheduleRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The new time: `at` is RFC 3339. One of `countdown_s` and `at`."""

    countdown_s: Countdown | None = None
    at: Instant | None = None


async def get_schedules(request: Request) -> Response:
    """Periodic jobs with last and next run."""
    return answer(ScheduleList(await call(request, schedules.schedules, time.time())))


async def get_schedule(request: Request) -> Response:
    """A periodic job with its last runs: when, how long, how they ended."""
    name = request.path_params["name"]
    for one in await call(request, schedules.schedules, time.time()):
        if one.name == name:
            last_runs = await call(request, schedules.runs, name)
            return answer(ScheduleDetail(**msgspec.structs.asdict(one), last_runs=last_runs))
    raise NotFound("periodic job", name)


async def run_schedule(request: Request) -> Response:
    """Run a periodic job now, besides its schedule; also one that is paused."""
    job_id = await _act(request, "run")
    return answer(JobCreated(job_id, created=True), 202, {"Location": f"/v1/jobs/{job_id}"})


async def pause_schedule(request: Request) -> Response:
    """Let the times of a periodic job pass without a run, until it is resumed."""
    await _act(request, "pause")
    return answer(Done(request.path_params["name"], "pause"))


async def resume_schedule(request: Request) -> Response:
    """Let a periodic job run again, from its next time on."""
    await _act(request, "resume")
    return answer(Done(request.path_params["name"], "resume"))


async def _act(request: Request, action: Action) -> str:
    await read_body(request)
    return await call(request, schedules.act, action, request.path_params["name"], time.time(), by=who(request))


async def get_scheduled(request: Request) -> Response:
    """Delayed jobs, the next one due first."""
    names = [one.name for one in FILTERS]
    task, queue, q = (request.query_params.get(name) for name in names)
    return answer(await call(request, delayed.page, task=task, queue=queue, q=q, **paging(request, *names)))


async def run_scheduled(request: Request) -> Response:
    """Move a delayed job to its queue now, with its options and its attempts so far."""
    await read_body(request)
    return answer(await call(request, delayed.run_now, request.path_params["id"], time.time(), by=who(request)), 202)


async def reschedule(request: Request) -> Response:
    """Let a delayed job wait until another time."""
    body, now = await read_json(request, RescheduleRequest), time.time()
    due = due_at(body.countdown_s, body.at, now)
    if due is None:
        raise InvalidField("at", "give a time that lies ahead, as countdown_s or at; to run the job now there is another call")
    return answer(await call(request, delayed.reschedule, request.path_params["id"], due, now, by=who(request)))


async def cancel_scheduled(request: Request) -> Response:
    """Cancel a delayed job: it never runs."""
    await read_body(request)
    return answer(await call(request, delayed.cancel, request.path_params["id"], time.time(), by=who(request)))


NEW_TIME = Annotated[
    RescheduleRequest,
    said(
        oneOf=[
            {
                "required": ["countdown_s"],
                "properties": {"countdown_s": {"type": "number", "exclusiveMinimum": 0}, "at": {"type": "null"}},
            },
            {"required": ["at"], "properties": {"at": {"type": "string"}, "countdown_s": {"type": "null"}}},
        ]
    ),
]
OPERATIONS = (
    Operation("GET", "/v1/schedules", get_schedules, response=ScheduleList),
    Operation("GET", "/v1/schedules/{name}", get_schedule, response=ScheduleDetail),
    Operation(
        "POST", "/v1/schedules/{name}/run", run_schedule, response=JobCreated, status=202, also=(409,), headers=("Location",)
    ),
    Operation("POST", "/v1/schedules/{name}/pause", pause_schedule, response=Done),
    Operation("POST", "/v1/schedules/{name}/resume", resume_schedule, response=Done),
    Operation("GET", "/v1/scheduled", get_scheduled, response=DelayedPage, parameters=(*FILTERS, *PAGE)),
    Operation("POST", "/v1/scheduled/{id}/run", run_scheduled, response=JobView, status=202, also=(409,)),
    Operation("POST", "/v1/scheduled/{id}/reschedule", reschedule, request=NEW_TIME, response=JobView, also=(409,)),
    Operation("POST", "/v1/scheduled/{id}/cancel", cancel_scheduled, response=JobView, also=(409,)),
)
