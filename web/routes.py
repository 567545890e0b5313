"""The routes of the operations: one for each path, so that 405 and OPTIONS name all of its methods.

What holds for every operation is done here: the media type of a body, HEAD, conditional GET, and what caches may keep.
"""

import hashlib
from collections.abc import Mapping, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from web.operation import Handler, Operation

NO_STORE = "no-store"
ASK_FIRST = "private, no-cache"
"""A client may keep the answer, a shared cache may not, and the client asks with If-None-Match each time."""


def routes(operations: Sequence[Operation]) -> list[Route]:
    """One route for each path, in the order in which the paths come first."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [Route(path, _serve(at_path), methods=[*at_path, "OPTIONS"]) for path, at_path in by_path.items()]


UNPACKED = "identity"
UNSAID = ("", "application/x-www-form-urlencoded")
"""No media type, and what curl says of whatever it sends: such a body is taken for JSON."""


def check_media_type(request: Request, operation: Operation) -> None:
    """A body that says it is something else, or packed, is not read as JSON."""
    if operation.request is not None and request.headers.get("content-encoding", UNPACKED) != UNPACKED:
        raise HTTPException(415, "send the body as it is, without Content-Encoding", {"Accept-Encoding": UNPACKED})
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if operation.request is not None and given not in UNSAID and given not in operation.media_types:
        taken = " or ".join(operation.media_types)
        raise HTTPException(415, f"send {taken}, not {given}", {"Accept": ", ".join(operation.media_types)})


def conditional(response: Response, if_none_match: str) -> Response:
    """The answer to a GET, or 304 when the client has it already. An answer without an ETag gets one of its bytes."""
    response.headers.setdefault("Cache-Control", ASK_FIRST)
    if response.status_code != 200:
        return response
    tag = response.headers.get("ETag")
    if tag is None:
        tag = response.headers["ETag"] = f'"{hashlib.blake2b(response.body, digest_size=12).hexdigest()}"'
    if not matches(tag, if_none_match):
        return response
    kept = {name: response.headers[name] for name in ("ETag", "Cache-Control", "Vary") if name in response.headers}
    return Response(status_code=304, headers=kept)


def matches(tag: str, if_none_match: str) -> bool:
    """Whether If-None-Match names the entity tag, by weak comparison (RFC 9110, 13.1.2). Our tags hold no comma."""
    named = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return named == ["*"] or tag.removeprefix("W/") in named


def _serve(at_path: Mapping[str, Operation]) -> Handler:
    allowed = ", ".join(sorted({*at_path, "OPTIONS"} | ({"HEAD"} if "GET" in at_path else set())))

    async def serve(request: Request) -> Response:
        if request.scope["path"].endswith("\n"):  # the router's patterns look past it, the rules of web/rules.py do not
            raise HTTPException(404)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        operation = at_path["GET" if request.method == "HEAD" else request.method]
        check_media_type(request, operation)
        response = await operation.handler(request)
        if operation.is_kept():
            return conditional(response, request.headers.get("if-none-match", ""))
        response.headers.setdefault("Cache-Control", NO_STORE)
        if request.method == "HEAD":  # a stream of events would not end
            return Response(status_code=response.status_code, headers=dict(response.headers))
        return response

    return serve
