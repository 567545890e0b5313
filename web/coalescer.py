"""Requests that arrive together share one Redis round trip; each gets its own answer.

While MAX_IN_FLIGHT round trips are under way, what arrives waits and goes with the next one: the batch grows with the load,
without a timer. A round trip that fails, fails exactly the requests that it carried.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from jobs.mall.entries import Entry

MAX_BATCH = 2_000
"""Events a script: one that took long would hold up everybody."""
MAX_IN_FLIGHT = 2
"""With two, Redis has the next batch while the answer to the last one is on its way."""

Ingest = Callable[[Sequence[Entry], float], Awaitable[list[bool]]]
Answer = asyncio.Future[list[bool]]


class Waiter(Protocol):
    """What waits for an answer: a future, or the little of one that is needed here."""

    def done(self) -> bool:
        """Whether it does not wait any more."""

    def set_result(self, result: list[bool], /) -> None:
        """Which of its entries were new."""

    def set_exception(self, exception: Exception, /) -> None:
        """The error of the round trip that carried them."""


class Coalescer:
    """Gathers entries of concurrent requests. `ingest(entries, now)` writes a batch and tells which were new."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._waiting: deque[tuple[Sequence[Entry], Waiter]] = deque()
        self._flying: set[asyncio.Task[None]] = set()
        self._due = False

    def submit(self, entries: Sequence[Entry]) -> Answer:
        """Writes the entries; True for each that was new. The future has the error of the round trip that carried them."""
        done: Answer = asyncio.get_running_loop().create_future()
        self.carry(entries, done)
        return done

    def carry(self, entries: Sequence[Entry], done: Waiter) -> None:
        """The same for what waits in its own way."""
        self._waiting.append((entries, done))
        if not self._due and len(self._flying) < MAX_IN_FLIGHT:
            self._due = True
            asyncio.get_running_loop().call_soon(self._start)  # the other requests of this tick join

    def _start(self) -> None:
        self._due = False
        while self._waiting and len(self._flying) < MAX_IN_FLIGHT:
            task = asyncio.create_task(self._carry(self._next_batch()))
            self._flying.add(task)
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._start()

    def _next_batch(self) -> list[tuple[Sequence[Entry], Waiter]]:
        batch = [self._waiting.popleft()]
        size = len(batch[0][0])
        while self._waiting and size + len(self._waiting[0][0]) <= MAX_BATCH:
            batch.append(self._waiting.popleft())
            size += len(batch[-1][0])
        return batch

    async def _carry(self, batch: list[tuple[Sequence[Entry], Waiter]]) -> None:
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
