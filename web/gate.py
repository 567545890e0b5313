"""The gate: what cannot be taken is refused before its body is read and before it costs anything.

While Redis does not answer that is every call of the API, otherwise new work beyond what is admitted. The protocol asks here
before it starts the application, and writes the answer itself: a refusal must cost a fraction of what the request would, or
shedding would not relieve anybody.
"""

from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from jobs import trace
from jobs.errors import Refused
from web.admission import Admission, Kind
from web.problems import KNOWN, MEDIA_TYPE, TYPE, TYPES, Problem

STATE = "gate"
"""Its name in the state of the life span, which uvicorn hands to each connection."""
NEW_WORK = {"/v1/entries": Kind.ENTRIES, "/v1/orders": Kind.ORDERS, "/v1/jobs": Kind.JOBS}
STATUS = HTTPStatus.SERVICE_UNAVAILABLE


class Gate:
    """Says which requests are refused; one for the process."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def refuses(self, scope: Any) -> Refused | None:
        """Why the request with this head is refused; None when it may pass."""
        path: str = scope["path"]
        if not path.startswith("/v1/"):
            return None
        kind = NEW_WORK.get(path) if scope["method"] == "POST" else None
        try:
            if kind is None:
                self._admission.pulse.check()
            else:
                self._admission.check(kind)
        except Refused as error:
            return error
        return None


def shed(cycle: RequestResponseCycle, error: Refused) -> None:
    """Answers it in one write. What has come of the body has been read by then: if that is all of it, the connection stays."""
    transport = cycle.transport
    if cycle.disconnected or transport.is_closing():
        return
    cycle.response_started = cycle.response_complete = True
    if cycle.flow.write_paused:
        cycle.keep_alive = False  # it reads no answers, and this one is not kept for it as well
    else:
        transport.write(_answer(error, cycle))
    if not cycle.keep_alive:
        transport.close()
    cycle.on_response()


def _answer(error: Refused, cycle: RequestResponseCycle) -> bytes:
    scope: Any = cycle.scope
    name = KNOWN[type(error)][1] or "unavailable"
    body = msgspec.json.encode(Problem(TYPE + name, TYPES[name][1], STATUS, str(error), scope["path"]))
    before = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
    lines = [b"%b: %b\r\n" % header for header in cycle.default_headers]
    lines.append(
        b"content-type: %b\r\ncontent-length: %d\r\nretry-after: %d\r\ncache-control: no-store\r\ntraceparent: %b\r\n"
        % (MEDIA_TYPE.encode(), len(body), error.retry_after_s, trace.child_of(before.decode("latin-1"), "").encode())
    )
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    return b"".join((STATUS_LINE[STATUS], *lines, b"\r\n", b"" if scope["method"] == "HEAD" else body))
