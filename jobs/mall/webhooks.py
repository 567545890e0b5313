"""Webhooks: the receiver at an order's `notify_url` is told of every change of its status, one after the other.

The script that changes an order keeps a notice of it (order.lua), and a job tells of one notice; its end goes on with the next.
So a kill loses none, none overtakes another, and one is told twice only when the answer was lost: with the same `webhook-id`.
"""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import redis
import structlog

from jobs import connections, crash_points, keys, log, trace
from jobs.errors import CircuitOpen, Permanent, ReceiverError, RetryAfter
from jobs.mall import orders, receivers
from jobs.mall.carrier import retry_after_s
from jobs.mall.orders import OrderView
from jobs.mall.receivers import Resolver
from jobs.mall.webhook_call import Answer, post, signature
from jobs.queue.backoff import Backoff
from jobs.queue.breaker import Breaker
from jobs.queue.hooks import Effect, Ending
from jobs.queue.running import running_job
from jobs.queue.script import beside, exchange, is_stale
from jobs.queue.task import task
from jobs.setting_values import QUEUE_NAME
from jobs.settings import Settings, current

TOLD = beside(__file__, "told")
HEAL_NOTICE = beside(__file__, "heal_notice")
RETRY = Backoff(max_attempts=50, base_s=5.0, cap_s=7_200.0)
"""About a day, which GIVEN_UP_AFTER_S ends; the number of attempts bounds receivers that ask for short waits."""
GIVEN_UP_AFTER_S = 86_400.0
MAX_AT_ONCE = 8
"""Fewer than the slots that an IoWorker has at least: receivers that hang leave some to deliveries."""
TIME_LIMIT_S = 40.0
"""A time-out is for one step of a call, so a receiver that trickles its answer comes up to this."""
HEALED = 50
TELLING_STOPS = 410
DOWN = frozenset({408, 425})
logger = log.get("webhooks")


class Event(msgspec.Struct, frozen=True):
    """The body of a webhook: `type` is `order.<status>`, `data` the order as it was then."""

    type: str
    timestamp: datetime
    data: OrderView


@dataclass(frozen=True, slots=True)
class Notice:
    """One change to tell of, at `changed_at` (Unix seconds); `fields` is of the order's hash what never changes."""

    order_id: str
    version: str
    changed_at: float
    event: Event
    fields: dict[str, str]


class NoticeHooks:
    """When the job dies, the next notice's turn comes; this one is kept for a redrive until the letter is discarded."""

    def retried(self, ending: Ending) -> list[Effect]:
        """Nothing: the notice waits with its job."""
        del ending
        return []

    def died(self, ending: Ending) -> list[Effect]:
        """The next notice's turn."""
        return [Effect(TOLD, *_told("died", str(ending.args[0]), ending.job_id, ending.ended_at))]

    def redriven(self, job_id: str, args: tuple[Any, ...], now: float) -> list[Effect]:
        """Nothing: the job finds its notice."""
        del job_id, args, now
        return []

    def discarded(self, job_id: str, args: tuple[Any, ...], now: float) -> list[Effect]:
        """Nobody will be told of this change."""
        return [Effect(TOLD, *_told("discarded", str(args[0]), job_id, now))]


@task(
    name="orders.notify",
    queue="notify",
    retry=RETRY,
    time_limit_s=TIME_LIMIT_S,
    max_concurrent=MAX_AT_ONCE,
    ignore_result=True,
    hooks=NoticeHooks(),
)
def notify(order_id: str) -> str:
    """Tells the receiver of one change of the order: the one whose version ends the job's id."""
    client, job, settings = connections.process_client(), running_job(), current()
    notice = _notice(client, order_id, job.id)
    if notice is None:
        TOLD(client, *_told("told", order_id, job.id, time.time()))
        return "gone"
    structlog.contextvars.bind_contextvars(order_id=order_id)
    crash_points.reach("notice.read")
    trace.enter(notice.fields.get("trace", ""))
    try:
        answer = tell(client, notice, settings, attempt=job.attempt)
    except (ReceiverError, RetryAfter, CircuitOpen) as error:
        if time.time() - notice.changed_at > GIVEN_UP_AFTER_S:
            raise Permanent(f"not told for a day: {error}") from error
        raise
    crash_points.reach("notice.sent")
    TOLD(client, *_told("refused" if answer.status == TELLING_STOPS else "told", order_id, job.id, time.time()))
    crash_points.reach("notice.told")
    return str(answer.status)


def tell(
    client: redis.Redis, notice: Notice, settings: Settings, *, attempt: int = 1, resolve: Resolver = receivers.look_up
) -> Answer:
    """Sends one notice and returns a good answer, or 410.

    Raises ReceiverError or RetryAfter for any other and for none, CircuitOpen when its host fails too often, Permanent when the
    URL leads where nothing may be sent.
    """
    url = httpx.URL(notice.fields["notify_url"])
    body = msgspec.json.encode(notice.event)
    with _breaker(url).guard(client):
        began = time.monotonic()
        answer = post(url, body, _headers(notice, body, settings, time.time()), settings, resolve)
        took_s = round(time.monotonic() - began, 3)
        logger.info("webhook", host=url.host, type=notice.event.type, version=notice.version, status=answer.status, took_s=took_s)
        fault = _fault(answer, attempt, time.time())
        if fault is not None and _is_down(fault):
            raise fault
    if fault is not None:
        raise fault  # an answer, if not a good one: the receiver works
    return answer


def _fault(answer: Answer, attempt: int, now: float) -> ReceiverError | RetryAfter | None:
    """What an answer that is not good asks for. Never sooner than our own backoff: short waits would use up the attempts."""
    if 200 <= answer.status < 300 or answer.status == TELLING_STOPS:
        return None
    fault = ReceiverError(answer.said, answer.status)
    asked_s = retry_after_s(answer.retry_after, now) if answer.status in (429, 503) else None
    if asked_s is None:
        return fault
    wish = RetryAfter(max(asked_s, min(RETRY.cap_s, RETRY.base_s * 2.0 ** (attempt - 1))), str(fault))
    wish.__cause__ = fault
    return wish


def _headers(notice: Notice, body: bytes, settings: Settings, now: float) -> dict[str, str]:
    """The headers of a webhook that is sent at `now`: the id is the same at every attempt, time and signatures are not."""
    # With the time: a Redis that lost its last writes may come to a version a second time.
    webhook_id, at = f"{notice.order_id}-{notice.version}-{int(notice.changed_at * 1000)}", str(int(now))
    client = notice.fields.get("client", "")
    own = [secret for secret in settings.webhook_secrets if secret.client == client]
    signing = own or [secret for secret in settings.webhook_secrets if not secret.client]
    if not signing:
        raise Permanent("there is no secret to sign with: TURNSTILE_WEBHOOK_SECRETS is not set")
    return {
        "Content-Type": "application/json",
        "User-Agent": "Turnstile",
        "webhook-id": webhook_id,
        "webhook-timestamp": at,
        "webhook-signature": " ".join(signature(secret.secret, webhook_id, at, body) for secret in signing),
        **trace.headers(notice.fields.get("trace", "")),
    }


def heal(client: redis.Redis, *, now: float, after_s: float) -> list[str]:
    """The orders whose receiver has long been told of one change, some a pass: whatever lost its job gets one. A line each."""
    ids = [i.decode() for i in client.zrange(keys.NOTICES, "-inf", now - after_s, byscore=True, offset=0, num=HEALED)]
    done = []
    answers = exchange(client, [(HEAL_NOTICE, [keys.order(order_id)], [order_id, repr(now)]) for order_id in ids]) if ids else []
    for order_id, what in zip(ids, answers, strict=True):
        if isinstance(what, Exception):
            if connections.is_away(what) or is_stale(what):
                raise what
            logger.error("notice not healed", order_id=order_id, error=str(what))
        elif what:
            crash_points.reach("notices.healed")
            done.append(f"notice of order {order_id}: {what.decode()}")
    return done


def job_fields(order_id: str, now: float) -> str:
    """What the order's hash keeps of the jobs that tell of it: their queue, a space, their fields."""
    job = notify.spec(order_id, job_id=f"{order_id}-notify", now=now)
    return f"{job.queue} {job.fields}"


def _notice(client: redis.Redis, order_id: str, job_id: str) -> Notice | None:
    version = _version(order_id, job_id)
    names = ("reference", "created_at", "notify_url", "client", "trace")
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hmget(keys.order(order_id), names)
        pipeline.zrange(keys.order_notices(order_id), version, version, byscore=True)
        values, found = pipeline.execute()
    fields = {name: value.decode() for name, value in zip(names, values, strict=True) if value is not None}
    if not found or "notify_url" not in fields:
        return None
    version, status, step, updated_at, tracking_number, reason, due_at, attempts = msgspec.json.decode(
        found[0], type=tuple[str, str, str, str, str, str, str, str]
    )
    changed = {"tracking_number": tracking_number, "reason": reason, "due_at": due_at}
    shown = {**fields, "status": status, "step": step, "updated_at": updated_at, **{k: v for k, v in changed.items() if v}}
    view = orders.view(order_id, shown, msgspec.json.decode(attempts, type=list[msgspec.Raw]))
    changed_at = float(updated_at)
    event = Event(f"order.{status}", datetime.fromtimestamp(changed_at, UTC), view)
    return Notice(order_id, version, changed_at, event, fields)


def _version(order_id: str, job_id: str) -> str:
    """The change that a job tells of; 0, which is none, for a job that somebody enqueued by hand."""
    version = job_id.removeprefix(f"{order_id}-notify-")
    return version if version.isdecimal() else "0"


def _told(what: str, order_id: str, job_id: str, now: float) -> tuple[list[str], list[str]]:
    version = _version(order_id, job_id)
    return [keys.order(order_id), keys.order_notices(order_id)], [what, order_id, version, repr(now)]


def _breaker(url: httpx.URL) -> Breaker:
    """One for each receiver. Few calls trip it, since one that hangs takes its share of the slots until then."""
    place = url.netloc.decode().replace(":", ".")
    name = f"webhook.{place}"
    if not QUEUE_NAME.fullmatch(name):
        name = f"webhook.{hashlib.sha256(place.encode()).hexdigest()[:32]}"
    return Breaker(name, trips_on=_is_down, min_calls=5, window_s=60.0, probe_lease_s=TIME_LIMIT_S)


def _is_down(error: BaseException) -> bool:
    """Whether the receiver does not work. 429 and refusals do not say so."""
    cause = error.__cause__ if isinstance(error, RetryAfter) else error
    return isinstance(cause, ReceiverError) and (cause.status is None or cause.status in DOWN or cause.status >= 500)
