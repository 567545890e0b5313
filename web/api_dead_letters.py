"""/v1/dead-letters: what failed for good, by task and error; redrive and discard."""

from typing import Annotated, Any

import msgspec
import redis
from starlette.requests import Request
from starlette.responses import Response

from jobs.queue import dead_letters, redrives
from jobs.queue.dead_letters import DeadLetter, Group
from jobs.queue.redrives import Redrive
from web.audit import Done, who
from web.http import PAGE, answer, call, paging, read_body, read_json
from web.operation import Operation, Parameter


class DeadLetterPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Dead letters, the newest first; `groups` are the largest by task and error, at most 500."""

    count: int
    groups: list[Group]
    dead_letters: list[DeadLetter]
    next_cursor: str | None = None


class RedriveOne(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The optional body of a redrive: edited arguments."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None


class RedriveMany(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a redrive of a group, or of all without `group`. `kwargs` replace the keyword arguments of each call."""

    group: str | None = None
    rate_per_s: Annotated[float, msgspec.Meta(ge=redrives.SLOWEST, le=redrives.FASTEST)] | None = None
    kwargs: dict[str, Any] | None = None


class DiscardMany(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a discard of a group."""

    group: str


class Redriven(msgspec.Struct, frozen=True):
    """The redrive that was written down, and how many dead letters it puts back on their queues."""

    id: str
    redriven: int


class Discarded(msgspec.Struct, frozen=True):
    """The discard that was written down, among the redrives, and how many dead letters it deletes."""

    id: str
    discarded: int


class RedrivePage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Redrives (and discards) of many, the open ones first, then the last to end."""

    redrives: list[Redrive]
    next_cursor: str | None = None


async def get_dead_letters(request: Request) -> Response:
    """Dead letters, newest first, and the largest groups by task and error. A search may give a next page before it finds."""
    query, where = request.query_params, paging(request, "group", "search")

    def read(client: redis.Redis) -> DeadLetterPage:
        found, cursor = dead_letters.page(client, group=query.get("group"), search=query.get("search"), **where)
        return DeadLetterPage(dead_letters.count(client), dead_letters.groups(client), found, cursor)

    return answer(await call(request, read))


async def get_dead_letter(request: Request) -> Response:
    """One dead letter with its attempts."""
    return answer(await call(request, dead_letters.get, request.path_params["id"]))


async def redrive(request: Request) -> Response:
    """Put a dead letter back on its queue, with edited arguments if given; an order goes on at the step that failed."""
    job_id = request.path_params["id"]
    body = await read_json(request, RedriveOne) if (await read_body(request)).strip() else RedriveOne()
    await call(request, dead_letters.redrive, job_id, args=body.args, kwargs=body.kwargs, by=who(request))
    return answer(Done(job_id, "redrive"), 202, {"Location": f"/v1/jobs/{job_id}"})


async def discard(request: Request) -> Response:
    """Delete a dead letter for good; what its order had reserved is released."""
    job_id = request.path_params["id"]
    await read_body(request)
    await call(request, dead_letters.discard, job_id, by=who(request))
    return answer(Done(job_id, "discard"))


async def redrive_many(request: Request) -> Response:
    """Redrive those of a group, or all, that are dead letters now: the oldest first, at a rate if given."""
    body, by = await read_json(request, RedriveMany), who(request)
    asked = await call(
        request, redrives.request, "redrive", by=by, group=body.group, rate_per_s=body.rate_per_s, kwargs=body.kwargs
    )
    return answer(Redriven(asked.id, asked.total), 202, {"Location": f"/v1/redrives/{asked.id}"})


async def discard_many(request: Request) -> Response:
    """Delete for good those of a group that are dead letters now."""
    body = await read_json(request, DiscardMany)
    asked = await call(request, redrives.request, "discard", by=who(request), group=body.group)
    return answer(Discarded(asked.id, asked.total), 202, {"Location": f"/v1/redrives/{asked.id}"})


async def get_redrives(request: Request) -> Response:
    """Redrives and discards of many, the open ones first; kept for seven days after their end."""
    return answer(RedrivePage(*await call(request, redrives.page, **paging(request))))


async def get_redrive(request: Request) -> Response:
    """One redrive of many and how far it is."""
    return answer(await call(request, redrives.get, request.path_params["id"]))


async def cancel_redrive(request: Request) -> Response:
    """Leave what a redrive of many has not done yet."""
    await read_body(request)
    return answer(await call(request, redrives.cancel, request.path_params["id"], by=who(request)))


FILTERS = (
    Parameter("group", "only this group"),
    Parameter("search", "only those with this text in id, task, error type, message or arguments, in upper or lower case"),
)
LED = ("Location",)
OPERATIONS = (
    Operation("GET", "/v1/dead-letters", get_dead_letters, response=DeadLetterPage, parameters=(*FILTERS, *PAGE)),
    Operation(
        "POST",
        "/v1/dead-letters/redrive",
        redrive_many,
        request=RedriveMany,
        response=Redriven,
        status=202,
        also=(409,),
        headers=LED,
    ),
    Operation(
        "POST",
        "/v1/dead-letters/discard",
        discard_many,
        request=DiscardMany,
        response=Discarded,
        status=202,
        also=(409,),
        headers=LED,
    ),
    Operation("GET", "/v1/dead-letters/{id}", get_dead_letter, response=DeadLetter),
    Operation(
        "POST",
        "/v1/dead-letters/{id}/redrive",
        redrive,
        request=RedriveOne,
        response=Done,
        status=202,
        also=(409,),
        body_optional=True,
        headers=LED,
    ),
    Operation("POST", "/v1/dead-letters/{id}/discard", discard, response=Done),
    Operation("GET", "/v1/redrives", get_redrives, response=RedrivePage, parameters=PAGE),
    Operation("GET", "/v1/redrives/{id}", get_redrive, response=Redrive),
    Operation("POST", "/v1/redrives/{id}/cancel", cancel_redrive, response=Redrive, also=(409,)),
)
