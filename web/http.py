"""Reading bodies and writing answers, the same way in every handler."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
import redis
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jobs.errors import InvalidField, Malformed, TooLarge
from jobs.mall.bodies import decode_again
from jobs.mall.orders import field_of
from jobs.queue.cursor import CURSOR
from web.field_errors import field_errors
from web.nesting import MAX_DEPTH, is_too_deep
from web.operation import Parameter
from web.problems import InvalidFields
from web.state import state

Body = TypeVar("Body")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
MAX_PAGE = 500
DEFAULT_PAGE = 50
PING_S = 15
"""How often a silent event stream shows that it lives."""
WHOLE = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE}


def paged(cursor: str) -> tuple[Parameter, ...]:
    """The parameters of a list that comes in pages; `cursor` is the pattern of its cursors."""
    told = {"type": "string", "pattern": f"^{cursor}$"}
    return (
        Parameter("cursor", "next_cursor of the page before", schema=told),
        Parameter("limit", "entries a page", schema=WHOLE),
    )


PAGE = paged(CURSOR.pattern)


async def read_body(request: Request) -> bytes:
    """The body, at most `max_body_bytes`; may be asked for again. Raises TooLarge before more than that is held."""
    if hasattr(request.state, "body"):
        return bytes(request.state.body)
    limit = state(request).settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"the body has {announced} bytes, at most {limit} are taken")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise TooLarge(f"the body has more than {limit} bytes")
    except ClientDisconnect:
        raise HTTPException(408, "the client went away before the body's end") from None
    request.state.body = bytes(body)
    return bytes(request.state.body)


async def read_json(request: Request, kind: type[Body]) -> Body:
    """The body as `kind`. Raises Malformed for what is not JSON, InvalidFields for what does not fit."""
    body = await read_body(request)
    if not body.strip():
        raise Malformed("the body is empty, a JSON object is needed")
    if is_too_deep(body):
        raise Malformed(f"the JSON is nested more than {MAX_DEPTH} deep")
    try:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.ValidationError:
            raw = decode_again(body)
        try:
            return msgspec.convert(raw, kind)
        except msgspec.ValidationError as error:
            found = field_errors(raw, kind) or [field_of(error)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from None
    raise InvalidFields(found)


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer; `Any` because every struct of the API may be one."""
    return Response(msgspec.json.encode(value), status, media_type="application/json", headers=headers)


async def call(
    request: Request,
    function: Callable[Concatenate[redis.Redis, Arguments], Result],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result:
    """Calls the function with the synchronous client, in a thread."""
    return await run_in_threadpool(function, state(request).sync_redis, *args, **kwargs)


def paging(request: Request, *filters: str) -> dict[str, Any]:
    """The `cursor` and `limit` of a list that knows these filters too. Raises InvalidField."""
    known_query(request, *filters, "cursor", "limit")
    return {"cursor": request.query_params.get("cursor"), "limit": page_limit(request)}


def page_limit(request: Request) -> int:
    """The `limit` of a list. Raises InvalidField."""
    text = request.query_params.get("limit", str(DEFAULT_PAGE))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_PAGE:
        raise InvalidField("limit", f"a whole number between 1 and {MAX_PAGE} is needed")
    return int(text)


def known_query(request: Request, *names: str) -> None:
    """Refuses query parameters that the call does not know. Raises InvalidField."""
    for name in request.query_params:
        if name not in names:
            raise InvalidField(name, f"unknown parameter; known are {', '.join(names) or 'none'}")
