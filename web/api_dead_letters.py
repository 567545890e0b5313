"""/v1/dead-letters: what failed for good, by task and error; redrive and discard."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from jobs.queue import dead_letters
from jobs.queue.dead_letters import DeadLetter, Group
from web.api_orders import CURSOR, LIMIT
from web.audit import audit
from web.http import answer, known_query, page_limit, read_body, read_json
from web.operation import Operation, Parameter
from web.state import state


class DeadLetterPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Dead letters, the newest first; `groups` counts all of them by task and error."""

    count: int
    groups: list[Group]
    dead_letters: list[DeadLetter]
    next_cursor: str | None = None


class RedriveOne(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The optional body of a redrive: edited arguments."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None


class RedriveMany(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a redrive of a group, or of all without `group`. `rate_per_s` spreads them over time."""

    group: str | None = None
    rate_per_s: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Done(msgspec.Struct, frozen=True):
    """What was done to a dead letter."""

    id: str
    action: str


class Redriven(msgspec.Struct, frozen=True):
    """How many dead letters go back to their queues, at once or at the rate asked for."""

    redriven: int


async def get_dead_letters(request: Request) -> Response:
    """A page of dead letters with the groups."""
    known_query(request, "group", "cursor", "limit")
    client, query, limit = state(request).sync_redis, request.query_params, page_limit(request)

    def read() -> DeadLetterPage:
        found, cursor = dead_letters.page(client, group=query.get("group"), cursor=query.get("cursor"), limit=limit)
        return DeadLetterPage(dead_letters.count(client), dead_letters.groups(client), found, cursor)

    return answer(await run_in_threadpool(read))


async def get_dead_letter(request: Request) -> Response:
    """One dead letter with its attempts."""
    return answer(await run_in_threadpool(dead_letters.get, state(request).sync_redis, request.path_params["id"]))


async def redrive(request: Request) -> Response:
    """Puts a dead letter back on its queue; an order goes on at the step that failed."""
    job_id, client = request.path_params["id"], state(request).sync_redis
    body = await read_json(request, RedriveOne) if (await read_body(request)).strip() else RedriveOne()
    await run_in_threadpool(lambda: dead_letters.redrive(client, job_id, args=body.args, kwargs=body.kwargs))
    await audit(request, "redrive", job_id)
    return answer(Done(job_id, "redrive"), 202, {"Location": f"/v1/jobs/{job_id}"})


async def discard(request: Request) -> Response:
    """Deletes a dead letter for good."""
    job_id = request.path_params["id"]
    await read_body(request)
    await run_in_threadpool(dead_letters.discard, state(request).sync_redis, job_id)
    await audit(request, "discard", job_id)
    return answer(Done(job_id, "discard"))


async def redrive_many(request: Request) -> Response:
    """Redrives a group or all."""
    client = state(request).sync_redis
    body = await read_json(request, RedriveMany)
    done = await run_in_threadpool(lambda: dead_letters.redrive_all(client, group=body.group, rate_per_s=body.rate_per_s))
    await audit(request, "redrive group", body.group or "all")
    return answer(Redriven(done), 202)


OPERATIONS = (
    Operation(
        "GET",
        "/v1/dead-letters",
        get_dead_letters,
        "Dead letters, newest first, and all of them grouped by task and error.",
        response=DeadLetterPage,
        errors=(422, 503),
        parameters=(Parameter("group", "only this group"), CURSOR, LIMIT),
    ),
    Operation(
        "POST",
        "/v1/dead-letters/redrive",
        redrive_many,
        "Redrive a group, or all; with rate_per_s they become ready one after the other.",
        request=RedriveMany,
        response=Redriven,
        status=202,
        errors=(400, 413, 422, 503),
    ),
    Operation("GET", "/v1/dead-letters/{id}", get_dead_letter, "One dead letter.", response=DeadLetter, errors=(404, 503)),
    Operation(
        "POST",
        "/v1/dead-letters/{id}/redrive",
        redrive,
        "Put a dead letter back on its queue, with edited arguments if given; an order goes on at the step that failed.",
        request=RedriveOne,
        response=Done,
        status=202,
        errors=(400, 404, 413, 422, 503),
    ),
    Operation(
        "POST",
        "/v1/dead-letters/{id}/discard",
        discard,
        "Delete a dead letter for good; what its order had reserved is released.",
        response=Done,
        errors=(404, 503),
    ),
)
