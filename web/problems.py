"""Errors as RFC 9457 problem+json: a stable `type`, the status, the field and the reason."""

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
    Refused,
    TooLarge,
    UnknownPool,
    UnknownTask,
)
from jobs.mall.orders import FieldError

TYPE = "urn:turnstile:problem:"
MEDIA_TYPE = "application/problem+json"
REDIS_RETRY_AFTER_S = 2
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


TITLES = {
    400: ("malformed", "The request cannot be read"),
    401: ("unauthenticated", "An API key is needed"),
    403: ("forbidden", "The request is not allowed"),
    404: ("not-found", "There is no such thing"),
    405: ("method-not-allowed", "The method is not allowed here"),
    409: ("conflict", "The present state forbids it"),
    413: ("too-large", "The request is too large"),
    422: ("invalid", "A field is refused"),
    500: ("internal", "Something went wrong on our side"),
    503: ("unavailable", "New work is not taken at the moment"),
}


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
    default, title = TITLES.get(status, (f"http-{status}", "Error"))
    body = Problem(TYPE + (name or default), title, status, detail, request.url.path, errors or [])
    return Response(msgspec.json.encode(body), status, media_type=MEDIA_TYPE, headers=headers)


async def on_known(request: Request, error: Any) -> Response:
    """The errors that carry their own meaning."""
    status, name = KNOWN[type(error)]
    errors = [FieldError(error.field, error.reason)] if isinstance(error, InvalidField) else getattr(error, "errors", None)
    wait_s = getattr(error, "retry_after_s", REDIS_RETRY_AFTER_S)
    return problem(request, status, str(error), name=name, errors=errors, headers=_retry(wait_s) if status == 503 else None)


async def on_redis(request: Request, error: Any) -> Response:
    """503 while Redis is away, full, read-only or loading; never a 202 that is not durable."""
    if not connections.is_away(error):
        logger.exception("Redis refused", path=request.url.path, error=str(error))
        return problem(request, 500, "Redis refused the operation; the log has the details")
    logger.warning("Redis is away", path=request.url.path, error=str(error))
    detail = "Redis does not take the write now; nothing was accepted for certain, send the same request again"
    return problem(request, 503, detail, name="redis-away", headers=_retry(REDIS_RETRY_AFTER_S))


async def on_http(request: Request, error: Any) -> Response:
    """Starlette's own: no route, wrong method."""
    return problem(request, error.status_code, str(error.detail), headers=dict(error.headers or {}))


async def on_unexpected(request: Request, error: Exception) -> Response:
    """500; the traceback goes to the log, not to the client."""
    logger.exception("unexpected error", path=request.url.path, exc_info=error)
    return problem(request, 500, "The log has the details; the trace id leads to them")


def _retry(after_s: int) -> dict[str, str]:
    return {"Retry-After": str(after_s)}


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
    Refused: (503, "overloaded"),
    NoRedis: (503, "redis-away"),
}
HANDLERS: dict[Any, Any] = {
    **dict.fromkeys(KNOWN, on_known),
    redis.exceptions.RedisError: on_redis,
    HTTPException: on_http,
    Exception: on_unexpected,
}
