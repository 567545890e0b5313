"""Live order events: one reader per process follows the event stream, while anybody watches an order, and wakes the watchers."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import redis.asyncio
import redis.exceptions

from jobs import keys, log

BLOCK_MS = 1_000
PAUSE_S = 1.0
BATCH = 500
logger = log.get("live")


class Live:
    """Hands the events of an order to its watchers. A watcher that falls behind misses nothing: it reads the order itself."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._watchers: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._wanted = asyncio.Event()
        self.closing = asyncio.Event()

    @contextmanager
    def watch(self, order_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the order changes, and when the server stops."""
        changed = asyncio.Event()
        self._watchers[order_id].add(changed)
        self._wanted.set()
        try:
            yield changed
        finally:
            self._watchers[order_id].discard(changed)
            if not self._watchers[order_id]:
                del self._watchers[order_id]
            if not self._watchers:
                self._wanted.clear()

    def close(self) -> None:
        """Wakes all watchers, so that their streams end."""
        self.closing.set()
        self._wanted.set()
        for watchers in self._watchers.values():
            for changed in watchers:
                changed.set()

    async def run(self) -> None:
        """Follows the stream until closed; after an absence of Redis every watcher looks for itself."""
        last: bytes | None = None
        while not self.closing.is_set():  # Python 3.11's wait_for, with which redis-py sends, may swallow a cancellation
            if not self._wanted.is_set():
                await self._wanted.wait()
                last = None
                continue
            try:
                # Not "$": what comes between two questions would be seen by neither.
                if last is None:
                    last = await self._newest()
                    self._wake(set(self._watchers))
                found = await self._client.xread({keys.EVENTS: last}, count=BATCH, block=BLOCK_MS)
                if not found and await self._newest() != last:
                    last = None  # a server that took over may have less of the stream, and a clock that is behind
            except redis.exceptions.RedisError as error:
                logger.info("event stream away", error=str(error))
                await asyncio.sleep(PAUSE_S)
                last = None
                continue
            for _stream, entries in found or []:
                last = entries[-1][0]
                self._wake({fields.get(b"order", b"").decode(errors="replace") for _entry_id, fields in entries})

    async def _newest(self) -> bytes:
        newest = await self._client.xrevrange(keys.EVENTS, count=1)
        return newest[0][0] if newest else b"0-0"

    def _wake(self, order_ids: set[str]) -> None:
        for order_id in order_ids & self._watchers.keys():
            for changed in self._watchers[order_id]:
                changed.set()
