"""/v1/workers: who works on what, pools scaled, workers stopped and restarted."""

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobs.errors import InvalidField
from jobs.queue import control, overview
from jobs.queue.control import PoolScale
from jobs.queue.overview import WorkerInfo
from jobs.setting_values import MAX_SIZE, Range
from web.audit import Done, who
from web.http import answer, call, read_body, read_json
from web.operation import Operation


class WorkerList(msgspec.Struct, frozen=True):
    """All live workers."""

    workers: list[WorkerInfo]


Size = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIZE)]


class ScaleRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many jobs each worker of the pool runs at once. Not 0: to hold a queue's jobs back, pause the queue."""

    min: Size
    max: Size


async def get_workers(request: Request) -> Response:
    """Live workers with what they can run at once, what they run, and their memory."""
    return answer(WorkerList(await call(request, overview.workers, with_jobs=True)))


async def scale_pool(request: Request) -> Response:
    """Set how many jobs each worker of a pool runs at once, until it is deleted."""
    body = await read_json(request, ScaleRequest)
    if body.min > body.max:
        raise InvalidField("min", f"must not lie above max ({body.max}), got {body.min}")
    pool = request.path_params["pool"]
    return answer(await call(request, control.scale, pool, Range(body.min, body.max), by=who(request)), 202)


async def unscale_pool(request: Request) -> Response:
    """Bring back the range that each worker's settings say."""
    await read_body(request)
    return answer(await call(request, control.scale, request.path_params["pool"], None, by=who(request)))


async def stop_worker(request: Request) -> Response:
    """Ask a worker to finish its jobs, hand back what has not begun, and exit."""
    name = request.path_params["name"]
    await read_body(request)
    await call(request, control.stop, name, by=who(request))
    return answer(Done(name, "stop"), 202)


async def restart_worker(request: Request) -> Response:
    """Ask a worker to finish its jobs and begin anew."""
    name = request.path_params["name"]
    await read_body(request)
    await call(request, control.restart, name, by=who(request))
    return answer(Done(name, "restart"), 202)


OPERATIONS = (
    Operation("GET", "/v1/workers", get_workers, response=WorkerList),
    Operation("POST", "/v1/workers/{name}/stop", stop_worker, response=Done, status=202),
    Operation("POST", "/v1/workers/{name}/restart", restart_worker, response=Done, status=202, also=(409,)),
    Operation("POST", "/v1/workers/{pool}/scale", scale_pool, request=ScaleRequest, response=PoolScale, status=202),
    Operation("DELETE", "/v1/workers/{pool}/scale", unscale_pool, response=PoolScale),
)
