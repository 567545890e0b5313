"""/livez and /readyz: is the process alive, can it take work."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobs import connections
from web.http import answer
from web.operation import ANYBODY, Operation
from web.patience import patience
from web.problems import problem
from web.state import state


class Health(msgspec.Struct, frozen=True):
    """The answer of a probe."""

    status: str


async def livez(_request: Request) -> Response:
    """The process answers."""
    return answer(Health("alive"))


async def readyz(request: Request) -> Response:
    """Redis can be reached and is ready."""
    client = state(request).redis
    try:
        async with patience():
            await client.ping()
            persistence = await client.info("persistence")
    except connections.AWAY as error:
        return problem(request, 503, f"Redis is away: {type(error).__name__}", name="redis-away")
    if persistence.get("loading"):
        return problem(request, 503, "Redis is loading its data", name="redis-away")
    return answer(Health("ready"))


OPERATIONS = (
    Operation("GET", "/livez", livez, response=Health, scopes=ANYBODY),
    Operation("GET", "/readyz", readyz, response=Health, scopes=ANYBODY),
)
