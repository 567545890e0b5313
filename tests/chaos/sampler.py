"""Looks at a running system all the time and records it: sums that must add up at every instant, every change of an order.

Changes are recorded while the run lasts since Redis keeps only the last ten thousand.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import httpx
import redis.asyncio
from history import History, Kind, Snap

from jobs import connections, keys
from jobs.mall.orders import Status

SUMMARY_S, ORDERS_S, EVENTS_S = 0.1, 0.25, 0.2
TIMEOUT_S = 5.0
PAGE = 1_000


class Sampler:
    """Asks a random web process for the summary, and Redis itself, past every fault but its own, for the rest."""

    def __init__(self, history: History, urls: Sequence[str], redis_url: str, skus: Iterable[str], *, seed: int = 0) -> None:
        self._history, self._urls, self._skus = history, tuple(urls), tuple(skus)
        self._chance = random.Random(seed)
        self._redis: redis.asyncio.Redis = connections.connect_async(redis_url)
        self._last = "0"

    async def run(self, ended: asyncio.Event) -> None:
        """Until `ended` is set, which should be after the system has come to rest: then all changes of orders are recorded."""
        webs = [httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False) for url in self._urls]

        async def summary() -> None:
            asked_at = time.time()
            response = await self._chance.choice(webs).get("/v1/footfall/summary")
            if response.is_success:
                found = response.json()
                numbers = {name: found[name] for name in ("accepted", "counted", "pending")}
                self._history.append(Kind.SNAPSHOT, Snap.SUMMARY, "", asked_at=asked_at, numbers=numbers)

        looks = ((summary, SUMMARY_S), (self._orders, ORDERS_S), (self._events, EVENTS_S))
        try:
            async with asyncio.TaskGroup() as group:
                for look, every_s in looks:
                    group.create_task(_again(look, every_s, ended))
            await self._events()
        finally:
            for web in webs:
                await web.aclose()
            await self._redis.aclose()

    async def _orders(self) -> None:
        asked_at = time.time()
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zcard(keys.ORDERS)
            pipeline.zcard(keys.ORDERS_OPEN)
            for status in Status:
                pipeline.zcard(keys.STATUS_PREFIX + status.value)
            for sku in self._skus:
                pipeline.hmget(keys.STOCK_PREFIX + sku, "on_hand", "reserved")
            known, open_, *rest = await pipeline.execute()
        by_status = dict(zip(Status, rest, strict=False))
        numbers = {"known": known, "open": open_, **{status.value: number for status, number in by_status.items()}}
        self._history.append(Kind.SNAPSHOT, Snap.ORDERS, "", asked_at=asked_at, numbers=numbers)
        for sku, (on_hand, reserved) in zip(self._skus, rest[len(Status) :], strict=True):
            if on_hand is not None:
                stock = {"on_hand": int(on_hand), "reserved": int(reserved or 0)}
                self._history.append(Kind.SNAPSHOT, Snap.STOCK, sku, asked_at=asked_at, numbers=stock)

    async def _events(self) -> None:
        while found := await self._redis.xrange(keys.EVENTS, f"({self._last}" if self._last != "0" else "-", count=PAGE):
            changes = [(e[b"order"].decode(), e[b"status"].decode(), int(at.partition(b"-")[0]) / 1_000) for at, e in found]
            self._history.append(Kind.SNAPSHOT, Snap.EVENTS, "", events=changes)
            self._last = found[-1][0].decode()


async def _again(look: Callable[[], Awaitable[None]], every_s: float, ended: asyncio.Event) -> None:
    while not ended.is_set():
        try:
            await look()
        except httpx.TransportError:
            pass  # somebody was killed; the next look is at another moment
        except redis.exceptions.RedisError as error:
            if not connections.is_away(error):
                raise
        await asyncio.sleep(every_s)
