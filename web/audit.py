"""The audit trail's part that needs a request: who sent it."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request

from jobs.queue.audit import record
from web.http import call


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was done to what. A purge also counts: jobs that belong to an order or a buffer are kept."""

    target: str
    action: str
    purged: int = 0
    kept: int = 0


def who(request: Mapping[str, Any]) -> str:
    """The API client that sent the request (or has the ASGI scope); `local` where there are no keys."""
    return request.get("client_name") or "local"


async def audit(request: Request, what: str, target: str) -> None:
    """Notes an operator's action, in Redis and in the log."""
    await call(request, record, what, who=who(request), target=target)
