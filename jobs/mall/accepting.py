"""Accepting orders: idempotency record, order, indexes, event and job in one script; orders that came together share it."""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import redis.asyncio

from jobs import crash_points, keys, trace
from jobs.errors import IdempotencyMismatch
from jobs.mall import orders, steps, webhooks
from jobs.mall.orders import OrderRequest, OrderView, Status, Step
from jobs.queue.script import Argument, beside
from jobs.settings import Settings

ACCEPT = beside(__file__, "accept")
MAX_KEY = 255
RANDOM_BITS = 38


@dataclass(frozen=True, slots=True)
class Sent:
    """An order as it was sent: by whom, under which idempotency key, in which trace."""

    request: OrderRequest
    client_name: str
    key: str
    trace: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted order: its id and the answer, byte for byte what a repeated request gets as well."""

    order_id: str
    answer: bytes
    replayed: bool


Outcome = Accepted | IdempotencyMismatch


def n_lines(batch: Sequence[Sent]) -> int:
    """What orders weigh: with as many as one may have, the script stays as short as the longest that one takes."""
    return sum(len(sent.request.lines) for sent in batch)


def new_order_id(now: float) -> str:
    """An id that sorts by time: milliseconds and 38 random bits. Short: each step's job holds it several times."""
    number = int(now * 1000) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    return "ord_" + base64.b32hexencode(number.to_bytes(10, "big")).decode().lower()


async def accept(client: redis.asyncio.Redis, batch: Sequence[Sent], *, settings: Settings, now: float) -> list[Outcome]:
    """Accepts orders in one round trip, or finds of one that it was accepted before under its key."""
    job = steps.pick_batch_spec(now)
    records = []
    places = [keys.SCHEDULED_JOBS]
    args: list[Argument] = [repr(now), settings.idempotency_ttl_s, job.id, job.queue, job.fields]
    for sent in batch:
        place = hashlib.sha256(f"{sent.client_name}\n{sent.key}".encode()).hexdigest()
        places.append(keys.IDEMPOTENCY_PREFIX + place)
        record, about = _written(sent, new_order_id(now), now)
        records.append(record)
        args += about
    crash_points.reach("accept.asked")
    found = await ACCEPT.run(client, places, args)
    crash_points.reach("accept.written")
    return [
        _outcome(sent, record, record if before == 1 else before)
        for sent, record, before in zip(batch, records, found, strict=True)
    ]


def _outcome(sent: Sent, ours: bytes, kept: bytes) -> Outcome:
    """What the record that its key has now says. Ours may have been there before: a script whose answer got lost comes twice."""
    fingerprint, order_id, answer = kept.split(b" ", 2)
    if not ours.startswith(fingerprint):
        return IdempotencyMismatch(sent.key, order_id.decode())
    return Accepted(order_id.decode(), answer, replayed=kept != ours)


def _written(sent: Sent, order_id: str, now: float) -> tuple[bytes, list[Argument]]:
    """The order's record - fingerprint of the body, id, answer - and what the script is told about it."""
    request = sent.request
    due_at = now + request.countdown_s if request.countdown_s else None
    reference = request.reference or order_id
    status = Status.SCHEDULED if due_at else Status.ACCEPTED
    view = OrderView(order_id, reference, status.value, Step.PICK.value, now, now, [], due_at=due_at)
    fingerprint = hashlib.sha256(msgspec.json.encode(request)).hexdigest()
    record = b"%b %b %b" % (fingerprint.encode(), order_id.encode(), msgspec.json.encode(view))
    fields: list[Argument] = ["reference", reference, "step", Step.PICK.value, "created_at", repr(now)]
    fields += ("lines", orders.encode_lines(request.lines))
    for name in ("customer", "country", "email"):
        if value := getattr(request, name):
            fields += (name, value)
    if sent.trace:
        fields += ("trace", sent.trace)
    starting: Sequence[Argument] = ("", "", "")
    if request.notify_url is not None:
        with trace.within(sent.trace):
            notify = webhooks.job_fields(order_id, now)
        fields += ("notify_url", request.notify_url, "client", sent.client_name, "notify", notify)
    if due_at:
        with trace.within(sent.trace):
            job = steps.start_spec(order_id, now)
        fields += ("due_at", repr(due_at))
        starting = (job.id, job.queue, job.fields)
    told = int(request.notify_url is not None)
    return record, [order_id, record, repr(due_at) if due_at else "", told, *starting, len(fields), *fields]
