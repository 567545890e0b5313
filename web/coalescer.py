"""Requests that arrive together share one Redis round trip; each gets its own answer.

While MAX_IN_FLIGHT round trips are under way, what arrives waits and goes with the next one: the batch grows with the load,
without a timer. A round trip that fails, fails exactly the requests that it carried.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

MAX_IN_FLIGHT = 2
"""With two, Redis has the next batch while the answer to the last one is on its way."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Told = TypeVar("Told", contravariant=True)
Write = Callable[[Sequence[Item], float], Awaitable[list[Outcome]]]


class Waiter(Protocol[Told]):
    """What waits for an answer: a future, or the little of one that is needed here."""

    def done(self) -> bool:
        """Whether it does not wait any more."""

    def set_result(self, result: Told, /) -> None:
        """What became of its items."""

    def set_exception(self, exception: Exception, /) -> None:
        """The error of the round trip that carried them."""


class Coalescer(Generic[Item, Outcome]):
    """Gathers what concurrent requests bring. `write(items, now)` writes a batch and tells what became of each item.

    A batch has the weight of `most` at most, or one request: a script that took long would hold up everybody.
    """

    def __init__(self, write: Write[Item, Outcome], most: int, weigh: Callable[[Sequence[Item]], int] = len) -> None:
        self._write, self._most, self._weigh = write, most, weigh
        self._waiting: deque[tuple[Sequence[Item], Waiter[list[Outcome]]]] = deque()
        self._flying: set[asyncio.Task[None]] = set()
        self._due = False

    def submit(self, items: Sequence[Item]) -> asyncio.Future[list[Outcome]]:
        """Writes the items. The future has what became of each, or the error of the round trip that carried them."""
        done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self.carry(items, done)
        return done

    def carry(self, items: Sequence[Item], done: Waiter[list[Outcome]]) -> None:
        """The same for what waits in its own way."""
        self._waiting.append((items, done))
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

    def _next_batch(self) -> list[tuple[Sequence[Item], Waiter[list[Outcome]]]]:
        batch = [self._waiting.popleft()]
        weight = self._weigh(batch[0][0])
        while self._waiting and (weight := weight + self._weigh(self._waiting[0][0])) <= self._most:
            batch.append(self._waiting.popleft())
        return batch

    async def _carry(self, batch: list[tuple[Sequence[Item], Waiter[list[Outcome]]]]) -> None:
        try:
            outcomes = await self._write([item for items, _ in batch for item in items], time.time())
        except Exception as error:  # noqa: BLE001  handed to the requests that the round trip carried
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
            return
        start = 0
        for items, done in batch:
            if not done.done():
                done.set_result(outcomes[start : start + len(items)])
            start += len(items)
