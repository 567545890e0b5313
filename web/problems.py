"""Errors as RFC 9457 problem+json: a stable `type`, the status, the field and the reason."""

import random
from typing import Any

import msgspec
import redis.exceptions
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from jobs import connections, log
from jobs.errors import (
    Conflict,
    IdempotencyMismatch,
    InvalidField,
    Malformed,
    NoRedis,
    NotFound,
    RedisAway,
    Refused,
    TooLarge,
    TooMany,
    UnknownPool,
    UnknownTask,
)
from jobs.mall.orders import FieldError

TYPE = "urn:turnstile:problem:"
MEDIA_TYPE = "application/problem+json"
REDIS_RETRY_AFTER_S = (1, 3)
logger = log.get("web")


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every error. `errors` names each refused field."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    errors: list[FieldError] = []


class InvalidFields(Exception):
    """Raised when several fields of a body are refused at once."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.reason}" for error in errors))
        self.errors = errors


TYPES = {
    "malformed": (400, "The request cannot be read"),
    "unauthenticated": (401, "An API key is needed"),
    "replayed": (401, "A signed request came twice"),
    "forbidden": (403, "The request is not allowed"),
    "missing-scope": (403, "The key has not the scope"),
    "not-found": (404, "There is no such thing"),
    "unknown-task": (404, "There is no such task"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "too-slow": (408, "The request did not arrive in time"),
    "conflict": (409, "The present state forbids it"),
    "too-large": (413, "The request is too large"),
    "target-too-long": (414, "The address is too long"),
    "unsupported-media-type": (415, "The body's media type is not taken here"),
    "invalid": (422, "A field is refused"),
    "idempotency-mismatch": (422, "The key was used with another body"),
    "too-many-requests": (429, "This client sends more than its share"),
    "headers-too-large": (431, "The head of the request is too large"),
    "internal": (500, "Something went wrong on our side"),
    "unavailable": (503, "New work is not taken at the moment"),
    "overloaded": (503, "New work is not taken at the moment"),
    "redis-away": (503, "Redis does not take the request"),
    "too-many-connections": (503, "Too many connections"),
    "http-version": (505, "This version of HTTP is not spoken here"),
}
"""Status and title of every type of problem; the first of a status is what it means unless something closer is known."""
DEFAULTS = {status: name for name, (status, _title) in reversed(TYPES.items())}


def problem(
    request: Request,
    status: int,
    detail: str,
    *,
    name: str | None = None,
    errors: list[FieldError] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """An error answer."""
    name = name or DEFAULTS[status]
    body = Problem(TYPE + name, TYPES[name][1], status, detail, request.url.path, errors or [])
    return Response(
        msgspec.json.encode(body), status, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"} | (headers or {})
    )


async def on_known(request: Request, error: Any) -> Response:
    """The errors that carry their own meaning."""
    status, name = KNOWN[type(error)]
    errors = [FieldError(error.field, error.reason)] if isinstance(error, InvalidField) else getattr(error, "errors", None)
    headers = getattr(error, "headers", None)
    if status == 503:
        headers = retry_after(getattr(error, "retry_after_s", None))
    return problem(request, status, str(error), name=name, errors=errors, headers=headers)


async def on_redis(request: Request, error: Any) -> Response:
    """503 while Redis is away, full, read-only or loading; never a 202 that is not durable."""
    if not connections.is_away(error):
        logger.exception("Redis refused", path=request.url.path, error=str(error))
        return problem(request, 500, "Redis refused the operation; the log has the details")
    logger.warning("Redis is away", path=request.url.path, error=str(error))
    detail = "Redis does not take the write now; nothing was accepted for certain, send the same request again"
    return problem(request, 503, detail, name="redis-away", headers=retry_after())


async def on_http(request: Request, error: Any) -> Response:
    """Starlette's own: no route, wrong method."""
    return problem(request, error.status_code, str(error.detail), headers=dict(error.headers or {}))


async def on_unexpected(request: Request, error: Exception) -> Response:
    """500; the traceback goes to the log, not to the client."""
    logger.exception("unexpected error", path=request.url.path, exc_info=error)
    detail = "The log has the details; the trace id leads to them"
    return problem(request, 500, detail, headers={"Connection": "close"})  # uvicorn closes it, and would not say so


def retry_after(after_s: int | None = None) -> dict[str, str]:
    """The header that says when to try again: after so long, or when Redis may be back; not everybody at once."""
    return {"Retry-After": str(after_s or random.randint(*REDIS_RETRY_AFTER_S))}


KNOWN: dict[type[Exception], tuple[int, str | None]] = {
    Malformed: (400, None),
    NotFound: (404, None),
    UnknownPool: (404, None),
    UnknownTask: (404, "unknown-task"),
    Conflict: (409, None),
    TooLarge: (413, None),
    InvalidField: (422, None),
    InvalidFields: (422, None),
    IdempotencyMismatch: (422, "idempotency-mismatch"),
    TooMany: (429, None),
    Refused: (503, "overloaded"),
    RedisAway: (503, "redis-away"),
    NoRedis: (503, "redis-away"),
}
HANDLERS: dict[Any, Any] = {
    **dict.fromkeys(KNOWN, on_known),
    redis.exceptions.RedisError: on_redis,
    HTTPException: on_http,
    Exception: on_unexpected,
}
