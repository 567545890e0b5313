"""GET /v1/audit: what operators did, and what was trimmed."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobs.queue import audit
from jobs.queue.audit import STREAM_ID
from web.http import answer, call, paged, paging
from web.operation import Operation


class AuditPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Actions, the newest first."""

    audit: list[audit.Entry]
    next_cursor: str | None = None


async def get_audit(request: Request) -> Response:
    """Who did what to what, newest first; about the last 10,000 actions are kept."""
    return answer(AuditPage(*await call(request, audit.page, **paging(request))))


OPERATIONS = (Operation("GET", "/v1/audit", get_audit, response=AuditPage, parameters=paged(STREAM_ID.pattern)),)
