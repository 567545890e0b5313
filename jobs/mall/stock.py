"""Stock by SKU: on hand, reserved by picked orders, available. A SKU that was never put is not tracked."""

import msgspec
import redis.asyncio

from jobs import keys
from jobs.errors import Conflict, NotFound
from jobs.queue.script import beside

PUT = beside(__file__, "stock_put")
MAX_ON_HAND = 1_000_000_000


class Stock(msgspec.Struct, frozen=True):
    """available = on_hand - reserved, never negative."""

    sku: str
    on_hand: int
    reserved: int
    available: int


async def put(client: redis.asyncio.Redis, sku: str, on_hand: int) -> Stock:
    """Sets what is on hand. Raises Conflict when orders have reserved more than that."""
    written, reserved = await PUT.run(client, [keys.STOCK_PREFIX + sku], [on_hand])
    if not written:
        raise Conflict(f"{reserved} of {sku} are reserved by open orders: on_hand cannot be {on_hand}")
    return Stock(sku, on_hand, reserved, on_hand - reserved)


async def get(client: redis.asyncio.Redis, sku: str) -> Stock:
    """What is on hand. Raises NotFound for a SKU that is not tracked."""
    on_hand, reserved = await client.hmget(keys.STOCK_PREFIX + sku, "on_hand", "reserved")
    if on_hand is None:
        raise NotFound("stock of a tracked SKU", sku)
    return Stock(sku, int(on_hand), int(reserved or 0), int(on_hand) - int(reserved or 0))
