"""GET /v1/alerts: when there were too many people, and who came while the mall was closed."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobs.mall import alerts
from jobs.queue.audit import STREAM_ID
from web.http import answer, call, paged, paging
from web.operation import Operation


class AlertsPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Alerts, the newest first."""

    alerts: list[alerts.Alert]
    next_cursor: str | None = None


async def get_alerts(request: Request) -> Response:
    """Alerts of occupancy and opening hours, newest first; about the last 1,000 are kept."""
    return answer(AlertsPage(*await call(request, alerts.page, **paging(request))))


OPERATIONS = (Operation("GET", "/v1/alerts", get_alerts, response=AlertsPage, parameters=paged(STREAM_ID.pattern)),)
