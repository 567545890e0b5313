"""The mall for the scores that need one: its processes, and clients that send the sample's orders, and entries."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import msgspec
from fleet import free_port
from processes import wait_for
from score_ground import LIMIT_S, Ground

from jobs import keys
from jobs.demo import sample

PAUSE_S = 0.05
SAMPLES = 200
TIMEOUT_S = 60.0


@dataclass
class Clients:
    """Clients of one web, and what they were answered; what was not taken is sent again with the same key."""

    url: str
    answers: Counter[int] = field(default_factory=Counter)
    orders: dict[str, str] = field(default_factory=dict)
    """Idempotency key -> order id, as accepted."""
    entries: set[str] = field(default_factory=set)
    longest_s: float = 0.0
    last_refused_at: float = 0.0
    stopped: bool = False

    async def order(self, numbers: Iterator[int]) -> None:
        """One client places one order after the other, until it is stopped or there are no more."""
        bodies = [order.body for order in sample.orders()[:SAMPLES] if not order.refusable]
        async with httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT_S, trust_env=False) as client:
            for number in itertools.takewhile(lambda _number: not self.stopped, numbers):
                key = f"order-{number}"
                answer = await self._until_taken(client, "/v1/orders", bodies[number % len(bodies)], {"Idempotency-Key": key})
                if answer:
                    self.orders[key] = answer.json()["id"]

    async def enter(self, numbers: Iterator[int]) -> None:
        """One device counts people until it is stopped."""
        async with httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT_S, trust_env=False) as client:
            while not self.stopped:
                event = f"event-{next(numbers)}"
                body = msgspec.json.encode({"gate": "north", "event_id": event})
                if await self._until_taken(client, "/v1/entries", body, {}):
                    self.entries.add(event)

    async def _until_taken(
        self, client: httpx.AsyncClient, path: str, body: bytes, headers: dict[str, str]
    ) -> httpx.Response | None:
        while True:
            sent_at = time.monotonic()
            answer = await client.post(path, content=body, headers={"Content-Type": "application/json", **headers})
            self.longest_s = max(self.longest_s, time.monotonic() - sent_at)
            self.answers[answer.status_code] += 1
            if answer.status_code == 202:
                await asyncio.sleep(PAUSE_S)
                return answer
            self.last_refused_at = time.monotonic()
            if answer.status_code not in (429, 503):
                return None
            await asyncio.sleep(PAUSE_S)


def open_mall(base: Ground, **environ: str) -> tuple[str, str]:
    """Starts everything; returns the URLs of web and carrier."""
    carrier, port = base.carrier(), free_port()
    own = {"CARRIER_URL": carrier, "TURNSTILE_CPU_CHILDREN": "1", **environ}
    base.processes.start("python", "-m", "web", PORT=str(port), **own)
    base.processes.start("python", "-m", "scheduler", **own)
    workers = [base.worker("IoWorker", "entries", "picking", **own), base.worker("IoWorker", "delivery", **own)]
    workers.append(base.worker("CpuWorker", "packing", **own))
    base.until_at_work(*workers)
    wait_for(lambda: answers(f"http://127.0.0.1:{port}/readyz"), LIMIT_S, "the web answers")
    wait_for(lambda: base.client.exists(keys.SCHEDULER_LOCK), LIMIT_S, "a scheduler leads")
    return f"http://127.0.0.1:{port}", carrier


def answers(url: str) -> bool:
    """Whether the URL answers well."""
    try:
        return httpx.get(url, trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False


def statuses(base: Ground, ids: list[str]) -> Counter[str]:
    """How many of the orders have which status."""
    with base.client.pipeline(transaction=False) as pipeline:
        for order_id in ids:
            pipeline.hget(keys.order(order_id), "status")
        return Counter((status or b"lost").decode() for status in pipeline.execute())
