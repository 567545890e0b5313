"""The audit trail: who did what to what, and when."""

import time

import msgspec
from starlette.requests import Request

from jobs import keys, log
from web.state import state

KEPT = 10_000
logger = log.get("audit")


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was done to what. A purge also counts: jobs that belong to an order or a buffer are kept."""

    target: str
    action: str
    purged: int = 0
    kept: int = 0


async def audit(request: Request, what: str, target: str) -> None:
    """Notes an operator's action, in Redis and in the log."""
    who = request.scope.get("client_name", "") or "local"
    logger.info("operator", what=what, who=who, target=target)
    await state(request).redis.xadd(
        keys.AUDIT, {"at": repr(time.time()), "what": what, "who": who, "target": target}, maxlen=KEPT, approximate=True
    )
