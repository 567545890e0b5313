"""When a job that a client sends is due, from the two ways in which a body may say so."""

from datetime import datetime
from typing import Annotated

from jobs.errors import InvalidField
from jobs.queue.delayed import MAX_AHEAD_S
from web.operation import said

Countdown = Annotated[float, said(minimum=0, maximum=MAX_AHEAD_S)]
Instant = Annotated[datetime, said(format="date-time")]
NOT_BOTH = said(
    **{"not": {"required": ["countdown_s", "at"], "properties": {"countdown_s": {"type": "number"}, "at": {"type": "string"}}}}
)


def due_at(countdown_s: float | None, at: datetime | None, now: float) -> float | None:
    """The instant (Unix seconds), or None for at once. Raises InvalidField."""
    if countdown_s is not None and at is not None:
        raise InvalidField("at", "give either countdown_s or at, not both")
    if countdown_s is not None:
        if not 0 <= countdown_s <= MAX_AHEAD_S:
            raise InvalidField("countdown_s", f"must lie between 0 and {MAX_AHEAD_S:g}")
        return now + countdown_s if countdown_s else None
    if at is None:
        return None
    if at.tzinfo is None:
        raise InvalidField("at", "needs an offset, as in 2026-11-21T10:15:00Z")
    if at.timestamp() > now + MAX_AHEAD_S:
        raise InvalidField("at", "lies more than a year ahead")
    return at.timestamp() if at.timestamp() > now else None
