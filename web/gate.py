"""The gate: what cannot be taken is refused before its body is read and before it costs anything.

While Redis does not answer that is every call of the API, otherwise new work beyond what is admitted. It stands before all
else and writes the answer itself: a refusal costs a fraction of what the request would, or shedding would not relieve anybody.
"""

from http import HTTPStatus

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs import trace
from jobs.errors import Refused
from web.admission import Admission, Kind
from web.problems import KNOWN, MEDIA_TYPE, TYPE, TYPES, Problem

NEW_WORK = {"/v1/entries": Kind.ENTRIES, "/v1/orders": Kind.ORDERS, "/v1/jobs": Kind.JOBS}
STATUS = HTTPStatus.SERVICE_UNAVAILABLE


class Gate:
    """Lets a request through, or answers 503."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            kind = NEW_WORK.get(scope["path"]) if scope["method"] == "POST" else None
            try:
                if kind is None:
                    self._admission.pulse.check()
                else:
                    self._admission.check(kind)
            except Refused as error:
                await _refuse(error, scope, send)
                return
        await self._app(scope, receive, send)


async def _refuse(error: Refused, scope: Scope, send: Send) -> None:
    name = KNOWN[type(error)][1] or "unavailable"
    body = msgspec.json.encode(Problem(TYPE + name, TYPES[name][1], STATUS, str(error), scope["path"]))
    before = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(error.retry_after_s).encode()),
        (b"cache-control", b"no-store"),
        (b"traceparent", trace.child_of(before.decode("latin-1"), "").encode()),
    ]
    await send({"type": "http.response.start", "status": int(STATUS), "headers": headers})
    await send({"type": "http.response.body", "body": body})
