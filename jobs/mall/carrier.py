"""The carrier: books a parcel over HTTP, safely repeatable.

The idempotency key is order and step, never the attempt, so that an answer that was lost books nothing twice.
"""

import functools
import math
import time
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from jobs import crash_points, trace
from jobs.errors import CarrierError, Permanent, RetryAfter
from jobs.queue.breaker import Breaker
from jobs.settings import current

RETRIED = frozenset({408, 425, 429})
CONNECT_TIMEOUT_S = 3.0
MAX_SHOWN = 200
MAX_RETRY_AFTER_S = 3_600.0


class Shipment(msgspec.Struct, frozen=True):
    """The body of POST /shipments. `items` is the number of pieces, `weight_g` grams."""

    order_id: str
    reference: str
    country: str
    items: int
    weight_g: int


class Booking(msgspec.Struct, frozen=True):
    """The carrier's answer."""

    tracking_number: str


def book(shipment: Shipment) -> str:
    """Books a parcel and returns its tracking number.

    Raises CarrierError or RetryAfter when another attempt may succeed (no connection, time-out, 408, 425, 429, 5xx, an answer
    that cannot be read), Permanent for any other answer.
    """
    headers = {"Idempotency-Key": f"{shipment.order_id}:deliver", "Content-Type": "application/json", **trace.headers()}
    url = f"{current().carrier_url}/shipments"
    crash_points.reach("carrier.asked")
    try:
        answer = _client().post(url, content=msgspec.json.encode(shipment), headers=headers)
    except httpx.TransportError as error:
        raise CarrierError(f"{type(error).__name__}: {error}") from error
    crash_points.reach("carrier.answered")
    if answer.status_code in (200, 201):
        return _tracking_number(answer)
    reason = " ".join(answer.text.split())[:MAX_SHOWN] or answer.reason_phrase
    if answer.status_code not in RETRIED and answer.status_code < 500:
        raise Permanent(f"carrier answered {answer.status_code}: {reason}")
    delay_s = retry_after_s(answer.headers.get("Retry-After"), time.time())
    fault = CarrierError(reason, answer.status_code)
    if delay_s is not None:
        raise RetryAfter(delay_s, f"carrier answered {answer.status_code}: {reason}") from fault
    raise fault


def is_down(error: BaseException) -> bool:
    """Whether the error of a booking says that the carrier does not work. 429 does not: it is about us."""
    cause = error.__cause__ if isinstance(error, RetryAfter) else error
    if not isinstance(cause, CarrierError):
        return False
    return cause.status is None or cause.status in (408, 425) or cause.status >= 500


BREAKER = Breaker("carrier", trips_on=is_down, min_calls=50)
"""A handful of failing orders is left to their own backoff."""


def retry_after_s(header: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, at most an hour; None when it is missing or cannot be read."""
    if header is None:
        return None
    try:
        delay_s = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        delay_s = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now  # "-0000" gives a naive time
    return min(max(delay_s, 0.0), MAX_RETRY_AFTER_S) if math.isfinite(delay_s) else None


def _tracking_number(answer: httpx.Response) -> str:
    try:
        return msgspec.json.decode(answer.content, type=Booking).tracking_number
    except msgspec.MsgspecError as error:
        raise CarrierError(f"unreadable answer: {error}", answer.status_code) from error


@functools.cache
def _client() -> httpx.Client:
    timeout = httpx.Timeout(current().carrier_timeout_s, connect=min(CONNECT_TIMEOUT_S, current().carrier_timeout_s))
    return httpx.Client(timeout=timeout, follow_redirects=False, limits=httpx.Limits(max_connections=current().io_slots.max))
