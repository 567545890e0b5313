"""The clients of a run: each sends one request after the other, again and again until it is answered, and records it all.

They keep to their rates whatever the system does, as far as answers come: what an outage held up is caught up with at most
`BEHIND_S`. A seeded share of what was answered is sent once more much later, as devices and shops do whose answer was lost.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx
from goods import Call, Goods
from history import History, Kind, Op, Record
from ledger import ENTRIES

PATIENCE_S = 120.0
TIMEOUT_S = 5.0
PAUSE_S = (0.05, 0.3)
"""Before a request is sent again that nobody has told to wait."""
LONGEST_PAUSE_S = 5.0
BEHIND_S = 2.0
LATER_S = (5.0, 120.0)
CLIENTS = 4
"""For each kind of request; twice as many for orders and single entries, which come most often."""
GAVE_UP = "gave up"
STOCK = {"85123A": 1_000_000, "22423": 400}
"""SKUs whose stock is tracked: one that never runs out, and one that soon does."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How many a second; a body has `lines` events. `cancels`, `delayed` (of the orders) and `repeats` (of all) are shares."""

    orders: float = 5.0
    entries: float = 20.0
    bodies: float = 1.0
    lines: int = 100
    jobs: float = 2.0
    canvases: float = 0.2
    items: float = 0.5
    cancels: float = 0.1
    delayed: float = 0.1
    repeats: float = 0.03


class Load:
    """All clients. `urls` are of web processes, of which each attempt takes the next."""

    def __init__(self, history: History, urls: Sequence[str], rates: Rates, *, seed: int = 0, redis_url: str = "") -> None:
        self._history, self._urls, self._rates = history, tuple(urls), rates
        self._goods = Goods(seed, delayed=rates.delayed, redis_url=redis_url)
        self._chance = random.Random(seed + 1)
        self._later: list[tuple[float, int, Call]] = []
        self._order = itertools.count()
        self._calls = itertools.count()
        self._ended = asyncio.Event()
        self.answered = dict.fromkeys(Op, 0)
        """So many so far; events of entries."""

    async def run(self, ended: asyncio.Event) -> None:
        """Until `ended` is set and every request has its answer, or nobody has had the patience to wait for it."""
        self._ended, rates, goods = ended, self._rates, self._goods
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._webs = [httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False, limits=limits) for url in self._urls]
        try:
            for sku, on_hand in STOCK.items():
                await self._ask("stock", goods.stock(sku, on_hand))
            works: list[tuple[str, float, int, Callable[[], Call]]] = [
                ("order", rates.orders, 2 * CLIENTS, goods.order),
                ("entry", rates.entries, 2 * CLIENTS, goods.entry),
                ("entries", rates.bodies, CLIENTS, lambda: goods.entries(rates.lines)),
                ("job", rates.jobs, CLIENTS, goods.job),
                ("canvas", rates.canvases, 1, goods.canvas),
                ("item", rates.items, 1, goods.item),
            ]
            async with asyncio.TaskGroup() as group:
                for name, rate, n_clients, make in works:
                    for number in range(n_clients if rate else 0):
                        group.create_task(self._send(f"{name}-{number}", rate / n_clients, make))
                group.create_task(self._repeat())
            # What was still to be sent once more when the last client had ended.
            for _due, _order, call in sorted(self._later):
                await self._ask("late", call, repeat=True)
        finally:
            goods.close()
            for web in self._webs:
                await web.aclose()

    async def _send(self, process: str, rate: float, make: Callable[[], Call]) -> None:
        due = time.monotonic() + self._chance.random() / rate
        while not await self._passed(due):
            call = make()
            record = await self._ask(process, call)
            if record is not None and self._chance.random() < self._rates.repeats:
                when = time.monotonic() + self._chance.uniform(*LATER_S)
                heapq.heappush(self._later, (when, next(self._order), call))
            if record is not None and record.kind is Kind.OK and call.op is Op.ORDER:
                await self._think_better(process, record.answer)
            due = max(due + 1 / rate, time.monotonic() - BEHIND_S)

    async def _think_better(self, process: str, order_id: str) -> None:
        if self._chance.random() < self._rates.cancels:
            await self._ask(process, self._goods.cancel(order_id))

    async def _repeat(self) -> None:
        while not await self._passed(time.monotonic() + PAUSE_S[0]):
            while self._later and self._later[0][0] <= time.monotonic() and not self._ended.is_set():
                await self._ask("late", heapq.heappop(self._later)[2], repeat=True)

    async def _passed(self, due: float) -> bool:
        """Waits until then; whether the load has ended."""
        try:
            await asyncio.wait_for(self._ended.wait(), max(0.0, due - time.monotonic()))
        except TimeoutError:
            return self._ended.is_set()
        return True

    async def _ask(self, process: str, call: Call, *, repeat: bool = False) -> Record | None:
        """Asks until there is an answer, and returns that; None when there was none in all that time."""
        append, again = self._history.append, {"repeat": True} if repeat else {}
        append(Kind.INVOKE, call.op, call.id, process, **again, **call.sent)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = await call.send(self._webs[next(self._calls) % len(self._webs)])
            if call.answered(answer):
                kind = Kind.OK if answer.status < 300 else Kind.FAIL
                if kind is Kind.OK and not repeat:
                    self.answered[call.op] += call.sent["n"] if call.op in ENTRIES else 1
                return append(kind, call.op, call.id, process, status=answer.status, **again, **answer.fields)
            append(Kind.INFO, call.op, call.id, process, status=answer.status, **again, **answer.fields)
            if time.monotonic() > deadline:
                append(Kind.INFO, call.op, call.id, process, **again, error=GAVE_UP)
                return None
            await asyncio.sleep(min(answer.after_s, LONGEST_PAUSE_S) or self._chance.uniform(*PAUSE_S))
