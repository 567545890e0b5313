"""Requests that arrive together share one Redis round trip; each gets its own answer.

While a round trip is under way, what arrives waits and goes with the next one: the batch grows with the load, without
a timer. A round trip that fails, fails exactly the requests that it carried.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from jobs.mall.entries import Entry

MAX_BATCH = 5_000

Ingest = Callable[[Sequence[Entry], float], Awaitable[list[bool]]]


class Coalescer:
    """Gathers entries of concurrent requests. `ingest(entries, now)` writes a batch and tells which were new."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._waiting: deque[tuple[Sequence[Entry], asyncio.Future[list[bool]]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, entries: Sequence[Entry]) -> list[bool]:
        """Writes the entries; True for each that was new. Raises what the round trip raised that carried them."""
        done: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, done))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await done

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # lets the other requests of this tick join
            while self._waiting:
                await self._carry(self._next_batch())
        finally:
            self._task = None

    def _next_batch(self) -> list[tuple[Sequence[Entry], asyncio.Future[list[bool]]]]:
        batch = [self._waiting.popleft()]
        size = len(batch[0][0])
        while self._waiting and size + len(self._waiting[0][0]) <= MAX_BATCH:
            batch.append(self._waiting.popleft())
            size += len(batch[-1][0])
        return batch

    async def _carry(self, batch: list[tuple[Sequence[Entry], asyncio.Future[list[bool]]]]) -> None:
        try:
            fresh = await self._ingest([entry for entries, _ in batch for entry in entries], time.time())
        except Exception as error:  # noqa: BLE001  handed to the requests that the round trip carried
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
            return
        start = 0
        for entries, done in batch:
            if not done.done():
                done.set_result(fresh[start : start + len(entries)])
            start += len(entries)
