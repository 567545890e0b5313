"""Accepting orders: idempotency record, order, indexes, event and job in one script, one round trip."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass

import msgspec
import redis.asyncio

from jobs import keys
from jobs.errors import IdempotencyMismatch
from jobs.mall import orders, steps, webhooks
from jobs.mall.orders import OrderRequest, Status, Step
from jobs.queue.script import beside
from jobs.settings import Settings

ACCEPT = beside(__file__, "accept")
MAX_KEY = 255
RANDOM_BITS = 38


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted order: its id and the answer, byte for byte what a repeated request gets as well."""

    order_id: str
    answer: bytes
    replayed: bool


def new_order_id(now: float) -> str:
    """An id that sorts by time: milliseconds and 38 random bits. Short: each step's job holds it several times."""
    number = int(now * 1000) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    return "ord_" + base64.b32hexencode(number.to_bytes(10, "big")).decode().lower()


async def accept(
    client: redis.asyncio.Redis, request: OrderRequest, *, client_name: str, key: str, settings: Settings, now: float, trace: str
) -> Accepted:
    """Accepts the order, or finds that it was accepted before under this key. Raises IdempotencyMismatch."""
    order_id = new_order_id(now)
    due_at = now + request.countdown_s if request.countdown_s else None
    fields = _fields(request, order_id, now, trace)
    if request.notify_url is not None:
        fields |= {"client": client_name, "notify": webhooks.job_fields(order_id, now)}
    status = Status.SCHEDULED if due_at else Status.ACCEPTED
    shown = {**fields, "status": status.value, "updated_at": fields["created_at"], "due_at": repr(due_at)}
    answer = msgspec.json.encode(orders.view(order_id, shown, []))
    job = steps.start_spec(order_id, now) if due_at else steps.pick_batch_spec(now)
    record = keys.IDEMPOTENCY_PREFIX + hashlib.sha256(f"{client_name}\n{key}".encode()).hexdigest()
    fingerprint = hashlib.sha256(msgspec.json.encode(request, order="deterministic")).hexdigest()
    outcome, *details = await ACCEPT.run(
        client,
        [record, keys.SCHEDULED_JOBS],
        [
            order_id,
            fingerprint,
            answer,
            settings.idempotency_ttl_s,
            repr(now),
            json.dumps([part for pair in fields.items() for part in pair]),
            repr(due_at) if due_at else "",
            job.id,
            job.queue,
            job.fields,
        ],
    )
    if outcome == b"mismatch":
        raise IdempotencyMismatch(key, details[0].decode())
    if outcome == b"replay":
        return Accepted(msgspec.json.decode(details[0])["id"], details[0], replayed=True)
    return Accepted(order_id, answer, replayed=False)


def _fields(request: OrderRequest, order_id: str, now: float, trace: str) -> dict[str, str]:
    optional = {
        "customer": request.customer,
        "country": request.country,
        "email": request.email,
        "notify_url": request.notify_url,
        "trace": trace,
    }
    return {
        "reference": request.reference or order_id,
        "step": Step.PICK.value,
        "version": "0",
        "created_at": repr(now),
        "lines": orders.encode_lines(request.lines),
        **{name: value for name, value in optional.items() if value},
    }
