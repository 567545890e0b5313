"""/v1/tasks: what the workers can run, and how fast and how many at once they may."""

from typing import Annotated

import msgspec
import redis
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from jobs import keys
from jobs.errors import Conflict, InvalidField, NotFound
from jobs.queue import limits, overview
from jobs.queue.catalogue import Card
from jobs.queue.limits import RATE, Limits, parse_rate
from web.audit import audit
from web.http import answer, call, read_body, read_json
from web.operation import Operation, said


class TaskInfo(msgspec.Struct, frozen=True):
    """One task. The limits are those in force, an operator's when `overridden`; `held` jobs are ready but for them."""

    name: str
    queue: str
    rate_limit: str | None
    max_concurrent: int | None
    overridden: bool
    held: int


class TaskList(msgspec.Struct, frozen=True):
    """All tasks that a worker has published."""

    tasks: list[TaskInfo]


class LimitsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of a task, like `50/s`, `10/m`, `5/h`. What is left out stays as it is, null stands for no limit."""

    rate_limit: Annotated[str, said(pattern=f"^(?![0.]+/){RATE.pattern}$")] | UnsetType | None = UNSET
    max_concurrent: Annotated[int, msgspec.Meta(ge=1)] | UnsetType | None = UNSET


async def get_tasks(request: Request) -> Response:
    """Tasks with their limits and how many jobs wait for those."""
    return answer(TaskList(await call(request, _tasks)))


async def post_limits(request: Request) -> Response:
    """Set the limits of a task that declares some, at once and until they are deleted."""
    name = request.path_params["name"]
    body = await read_json(request, LimitsRequest)
    now = await call(request, _task, name)
    rate = now.rate_limit if body.rate_limit is UNSET else body.rate_limit
    try:
        wanted = Limits(
            parse_rate(rate) if rate is not None else None,
            now.max_concurrent if body.max_concurrent is UNSET else body.max_concurrent,
        )
    except ValueError as error:
        raise InvalidField("rate_limit", str(error)) from None
    await call(request, limits.override, name, wanted)
    await audit(request, "set limits", name)
    return answer(await call(request, _task, name))


async def delete_limits(request: Request) -> Response:
    """Bring back the limits that the task declares."""
    name = request.path_params["name"]
    await read_body(request)
    await call(request, _task, name)
    await call(request, limits.override, name, None)
    await audit(request, "restore limits", name)
    return answer(await call(request, _task, name))


def _tasks(client: redis.Redis) -> list[TaskInfo]:
    cards = {name.decode(): msgspec.json.decode(card, type=Card) for name, card in client.hgetall(keys.TASKS).items()}
    overridden = limits.overridden(client)
    in_force = limits.declared(client) | overridden
    held = overview.held_jobs(client, overview.queue_names(client))
    found = []
    for name, card in sorted(cards.items()):
        limit = in_force.get(name, Limits())
        rate = None if limit.rate is None else str(limit.rate)
        waiting = sum(number for (_queue, task), number in held.items() if task == name)
        found.append(TaskInfo(name, card.queue, rate, limit.max_concurrent, name in overridden, waiting))
    return found


def _task(client: redis.Redis, name: str) -> TaskInfo:
    """One task that limits can be set for. Raises NotFound, Conflict."""
    card = client.hget(keys.TASKS, name)
    if card is None:
        raise NotFound("task", name)
    if not msgspec.json.decode(card, type=Card).limited:
        raise Conflict(f"task {name} declares no limit, so its jobs are not asked about: give it a rate_limit or max_concurrent")
    return next(task for task in _tasks(client) if task.name == name)


OPERATIONS = (
    Operation("GET", "/v1/tasks", get_tasks, response=TaskList),
    Operation("POST", "/v1/tasks/{name}/limits", post_limits, request=LimitsRequest, response=TaskInfo, also=(409,)),
    Operation("DELETE", "/v1/tasks/{name}/limits", delete_limits, response=TaskInfo, also=(409,)),
)
