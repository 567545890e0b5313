"""/v1/dead-letters: what failed for good, by task and error; redrive and discard."""

from typing import Annotated, Any

import msgspec
import redis
from starlette.requests import Request
from starlette.responses import Response

from jobs.queue import dead_letters
from jobs.queue.dead_letters import DeadLetter, Group
from web.audit import Done, audit
from web.http import PAGE, answer, call, known_query, page_limit, read_body, read_json
from web.operation import Operation, Parameter


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


class Redriven(msgspec.Struct, frozen=True):
    """How many dead letters go back to their queues, at once or at the rate asked for."""

    redriven: int


async def get_dead_letters(request: Request) -> Response:
    """Dead letters, newest first, and all of them grouped by task and error."""
    known_query(request, "group", "cursor", "limit")
    query, limit = request.query_params, page_limit(request)

    def read(client: redis.Redis) -> DeadLetterPage:
        found, cursor = dead_letters.page(client, group=query.get("group"), cursor=query.get("cursor"), limit=limit)
        return DeadLetterPage(dead_letters.count(client), dead_letters.groups(client), found, cursor)

    return answer(await call(request, read))


async def get_dead_letter(request: Request) -> Response:
    """One dead letter with its attempts."""
    return answer(await call(request, dead_letters.get, request.path_params["id"]))


async def redrive(request: Request) -> Response:
    """Put a dead letter back on its queue, with edited arguments if given; an order goes on at the step that failed."""
    job_id = request.path_params["id"]
    body = await read_json(request, RedriveOne) if (await read_body(request)).strip() else RedriveOne()
    await call(request, dead_letters.redrive, job_id, args=body.args, kwargs=body.kwargs)
    await audit(request, "redrive", job_id)
    return answer(Done(job_id, "redrive"), 202, {"Location": f"/v1/jobs/{job_id}"})


async def discard(request: Request) -> Response:
    """Delete a dead letter for good; what its order had reserved is released."""
    job_id = request.path_params["id"]
    await read_body(request)
    await call(request, dead_letters.discard, job_id)
    await audit(request, "discard", job_id)
    return answer(Done(job_id, "discard"))


async def redrive_many(request: Request) -> Response:
    """Redrive a group, or all; with rate_per_s they become ready one after the other."""
    body = await read_json(request, RedriveMany)
    done = await call(request, dead_letters.redrive_all, group=body.group, rate_per_s=body.rate_per_s)
    await audit(request, "redrive group", body.group or "all")
    return answer(Redriven(done), 202)


GROUP = Parameter("group", "only this group")
OPERATIONS = (
    Operation("GET", "/v1/dead-letters", get_dead_letters, response=DeadLetterPage, parameters=(GROUP, *PAGE)),
    Operation("POST", "/v1/dead-letters/redrive", redrive_many, request=RedriveMany, response=Redriven, status=202),
    Operation("GET", "/v1/dead-letters/{id}", get_dead_letter, response=DeadLetter),
    Operation("POST", "/v1/dead-letters/{id}/redrive", redrive, request=RedriveOne, response=Done, status=202),
    Operation("POST", "/v1/dead-letters/{id}/discard", discard, response=Done),
)
