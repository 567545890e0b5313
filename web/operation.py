"""One HTTP operation: the route and what the OpenAPI document says about it, in one place."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Handler = Callable[[Request], Awaitable[Response]]


class Parameter(msgspec.Struct, frozen=True, rename={"where": "in"}):
    """A parameter in the path, the query or a header, as OpenAPI writes it."""

    name: str
    description: str = ""
    where: str = "query"
    required: bool = False
    schema: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True)
class Operation:
    """`request` and `response` are msgspec types. What is left out follows from the rest: see `says` and `statuses`."""

    method: str
    path: str
    handler: Handler
    summary: str = ""
    request: Any = None
    response: Any = None
    status: int = 200
    also: tuple[int, ...] = ()
    body_optional: bool = False
    parameters: tuple[Parameter, ...] = ()
    media_types: tuple[str, ...] = ("application/json",)
    response_media_types: tuple[str, ...] = ("application/json",)

    def route(self) -> Route:
        """The Starlette route."""
        return Route(self.path, self.handler, methods=[self.method])

    def says(self) -> str:
        """The summary, or else the docstring of the handler."""
        return self.summary or " ".join((self.handler.__doc__ or "").split())

    def statuses(self) -> list[int]:
        """What it may answer besides its success: those given, and what a body, a path, a query or Redis' absence may cause."""
        found = {401, 403, 500, 503, *self.also}
        found |= {400, 422} if self.request is not None else set()
        found |= {413} if self.method != "GET" else set()
        found |= {404} if "{" in self.path else set()
        found |= {422} if self.parameters else set()
        return sorted(found)
