"""One HTTP operation: who serves it and what the OpenAPI document says about it, in one place."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobs.access.scopes import Scope

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
TO_LOOK = frozenset({Scope.OPS_READ})
TO_CHANGE = frozenset({Scope.OPS_WRITE})
ANYBODY: tuple[Scope, ...] = ()
"""No key is needed."""
Handler = Callable[[Request], Awaitable[Response]]


class Parameter(msgspec.Struct, frozen=True, rename={"where": "in"}):
    """A parameter in the path, the query or a header, as OpenAPI writes it."""

    name: str
    description: str = ""
    where: str = "query"
    required: bool = False
    schema: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "string"})


def said(**schema: Any) -> msgspec.Meta:
    """What the document says of a field that the handler checks, with a reason that is better than the decoder's."""
    return msgspec.Meta(extra_json_schema=schema)


@dataclass(frozen=True)
class Operation:
    """`request` and `response` are msgspec types, `scopes` those of which a key needs one.

    What is left out follows from the rest: see `says`, `statuses` and `needs`.
    """

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
    scopes: tuple[Scope, ...] | None = None
    examples: Mapping[str, Any] = field(default_factory=dict)
    """By media type of the body."""
    headers: tuple[str, ...] = ()
    """Headers of the answer that goes well, as openapi.HEADERS names them."""
    links: tuple[Handler, ...] = ()
    """Handlers of the operations whose `{id}` is the `id` in the answer that goes well."""

    def needs(self) -> frozenset[Scope]:
        """The scopes of which a key needs one; an operator's unless it says otherwise. Empty: no key is needed."""
        if self.scopes is None:
            return TO_LOOK if self.method in SAFE_METHODS else TO_CHANGE
        return frozenset(self.scopes)

    def says(self) -> str:
        """The summary, or else the docstring of the handler."""
        return self.summary or " ".join((self.handler.__doc__ or "").split())

    def statuses(self) -> list[int]:
        """What it may answer besides its success: those given, and what a body, a path, a query or Redis' absence may cause."""
        found = {401, 403, 500, 503, *self.also}
        found |= {400, 415, 422} if self.request is not None else set()
        found |= {413} if self.method != "GET" else {304} if self.is_kept() else set()
        found |= {404} if "{" in self.path else set()
        found |= {429} if self.path.startswith("/v1/") else set()
        found |= {422} if any(parameter.where != "header" for parameter in self.parameters) else set()
        return sorted(found)

    def is_kept(self) -> bool:
        """Whether a client may keep the answer and ask whether it still holds (If-None-Match)."""
        return self.method == "GET" and "text/event-stream" not in self.response_media_types
