"""/v1/breakers: which downstreams are left alone because they fail."""

import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobs.queue import breaker
from jobs.queue.breaker import BreakerState
from web.audit import Done, audit
from web.http import answer, call, read_body
from web.operation import Operation


class BreakerList(msgspec.Struct, frozen=True):
    """All circuit breakers."""

    breakers: list[BreakerState]


async def get_breakers(request: Request) -> Response:
    """Circuit breakers: state, calls and failures in the window, since when and until when one is open."""
    return answer(BreakerList(await call(request, breaker.states, time.time())))


async def reset_breaker(request: Request) -> Response:
    """Close a circuit and empty its window; it opens again if calls go on failing."""
    name = request.path_params["name"]
    await read_body(request)
    await call(request, breaker.reset, name, time.time())
    await audit(request, "reset breaker", name)
    return answer(Done(name, "reset"))


OPERATIONS = (
    Operation("GET", "/v1/breakers", get_breakers, response=BreakerList),
    Operation("POST", "/v1/breakers/{name}/reset", reset_breaker, response=Done),
)
