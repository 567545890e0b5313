"""Reading and cancelling orders."""

from typing import Any

import msgspec
import redis.asyncio

from jobs import crash_points, keys
from jobs.errors import Conflict, NotFound
from jobs.mall import orders
from jobs.mall.orders import OrderView, Status
from jobs.mall.packing import Slip
from jobs.queue.cursor import Cursor
from jobs.queue.script import beside

CANCEL = beside(__file__, "cancel")


class OrderPage(msgspec.Struct, omit_defaults=True):
    """A page of orders, the newest first."""

    orders: list[OrderView]
    next_cursor: str | None = None


async def get(client: redis.asyncio.Redis, order_id: str) -> tuple[OrderView, int]:
    """One order and its version. Raises NotFound."""
    found = await _read(client, [order_id])
    if not found:
        raise NotFound("order", order_id)
    return found[0]


async def slip(client: redis.asyncio.Redis, order_id: str) -> Slip:
    """The packing slip. Raises NotFound when there is no such order or it has not been packed yet."""
    fields = await client.hmget(keys.order(order_id), "status", "slip")
    if fields[0] is None:
        raise NotFound("order", order_id)
    if fields[1] is None:
        raise NotFound("packing slip (it is written when the order has been packed) of the order", order_id)
    return msgspec.json.decode(fields[1], type=Slip)


async def page(client: redis.asyncio.Redis, *, status: Status | None, cursor: str | None, limit: int) -> OrderPage:
    """Orders, newest first: by creation, or with a status by their last change. Raises InvalidField for a bad cursor."""
    index = keys.ORDERS if status is None else keys.STATUS_PREFIX + status.value
    start, offset = Cursor.parse(cursor), 0
    marked: list[tuple[str, str]] = []
    while len(marked) <= limit:
        batch = await client.zrange(
            index, start.score, "-inf", byscore=True, desc=True, offset=offset, num=limit + 1, withscores=True
        )
        offset += len(batch)
        marked += start.after(batch)
        if len(batch) <= limit:
            break
    shown = marked[:limit]
    found = [order for order, _version in await _read(client, [order_id for order_id, _mark in shown])]
    return OrderPage(found, shown[-1][1] if len(marked) > limit else None)


async def counts(client: redis.asyncio.Redis) -> dict[str, int]:
    """Orders by status and in all, in one snapshot; the sum includes those that cleanup has deleted."""
    async with client.pipeline(transaction=True) as pipeline:
        for status in Status:
            pipeline.zcard(keys.STATUS_PREFIX + status.value)
        pipeline.hgetall(keys.ORDERS_ARCHIVED)
        *present, archived = await pipeline.execute()
    past = {name.decode(): int(number) for name, number in archived.items()}
    return {status.value: number + past.get(status.value, 0) for status, number in zip(Status, present, strict=True)}


async def cancel(client: redis.asyncio.Redis, order_id: str, now: float) -> OrderView:
    """Cancels an order, again and again if need be. Raises NotFound, and Conflict once delivery has begun."""
    crash_points.reach("cancel.asked")
    answer = await CANCEL.run(
        client,
        [keys.order(order_id), keys.PICK_BUFFER, keys.SCHEDULED_JOBS],
        [order_id, repr(now), f"{order_id}-start"],
    )
    crash_points.reach("cancel.written")
    if answer is None:
        raise NotFound("order", order_id)
    if answer != b"cancelled":
        status = answer.decode()
        raise Conflict(f"the order is {status} and cannot be cancelled any more", status)
    return (await get(client, order_id))[0]


async def _read(client: redis.asyncio.Redis, ids: list[str]) -> list[tuple[OrderView, int]]:
    async with client.pipeline(transaction=True) as pipeline:
        for order_id in ids:
            pipeline.hgetall(keys.order(order_id))
            pipeline.lrange(keys.order_attempts(order_id), 0, -1)
        answers: list[Any] = await pipeline.execute()
    found = []
    for number, order_id in enumerate(ids):
        fields = {name.decode(): value.decode() for name, value in answers[2 * number].items()}
        if fields:
            found.append((orders.view(order_id, fields, answers[2 * number + 1]), int(fields["version"])))
    return found
