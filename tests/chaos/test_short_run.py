"""A short run against a system whose every process is killed again and again: nothing lost, nothing twice.

The kills are seeded and each comes after a number of further accepted orders, so that the run ends by work done, not by time.
"""

import asyncio
import collections
import json
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis
from carriers import Carrier
from processes import ROOT, Process, Processes
from servers import Server

from jobs import keys, procfile

KILLS = 24
ORDERS_BETWEEN = (4, 25)
EVENTS_EACH = 20
PATIENCE_S = 60.0
TRACKED_SKU, ON_HAND, QUANTITY = "85123A", 100_000, 2
QUICK = {
    "TURNSTILE_LEASE_S": "2",
    "TURNSTILE_RECONCILE_AFTER_S": "2",
    "TURNSTILE_STEP_MAX_ATTEMPTS": "50",
    "TURNSTILE_BACKOFF_BASE_S": "0.2",
    "TURNSTILE_BACKOFF_CAP_S": "2",
}


class System:
    """The Procfile's processes, a second scheduler and a worker on two queues, with a Redis and a carrier of their own."""

    def __init__(self, server: Server, processes: Processes, port: int, carrier_url: str) -> None:
        self.server = server
        self.url = f"http://127.0.0.1:{port}"
        self._processes = processes
        self._environ = {"REDIS_URL": server.url, "PORT": str(port), "CARRIER_URL": carrier_url, **QUICK}
        lines = procfile.parse((ROOT / "Procfile").read_text())
        self._commands = {name: line.split() for name, line in lines.items()}
        self._commands["scheduler2"] = self._commands["scheduler"]
        self._commands["courier2"] = [*self._commands["courier"], "packing"]
        self._running: dict[str, Process] = {name: self._start(name) for name in self._commands}

    def kill(self, name: str) -> None:
        """SIGKILL, then the platform starts it again."""
        if name == "redis":
            self.server.kill()
            self.server.start()
            return
        self._running[name].kill()
        self._running[name] = self._start(name)

    def _start(self, name: str) -> Process:
        return self._processes.start(*self._commands[name], **self._environ)

    @property
    def roles(self) -> list[str]:
        """Whatever can be killed."""
        return ["redis", *sorted(self._commands)]


class Load:
    """Clients that repeat each request, with the same key, until it is answered."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.orders: dict[str, bool] = {}
        self.events = 0
        self.ended = asyncio.Event()

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Asks until there is an answer that is none of trouble's."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = await self._client.request(method, path, **options)
                if answer.status_code < 500:
                    return answer
            except httpx.TransportError:
                answer = None
            assert time.monotonic() < deadline, f"{method} {path}: no answer, the last was {answer and answer.text}"
            await asyncio.sleep(0.02)

    async def send_orders(self) -> None:
        """Orders one after the other, every third of a SKU whose stock is tracked, every seventh delayed."""
        number = 0
        while not self.ended.is_set():
            number += 1
            tracked = number % 3 == 0
            body: dict[str, Any] = {"lines": [{"sku": TRACKED_SKU if tracked else "71053", "quantity": QUANTITY}]}
            if number % 7 == 0:
                body["countdown_s"] = 1.5
            answer = await self.ask("POST", "/v1/orders", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
            assert answer.status_code == 202, answer.text
            self.orders[answer.json()["id"]] = tracked

    async def send_entries(self) -> None:
        """Entries in small bodies, one after the other."""
        while not self.ended.is_set():
            lines = [json.dumps({"gate": "north", "event_id": uuid.uuid4().hex}) for _ in range(EVENTS_EACH)]
            headers = {"Content-Type": "application/x-ndjson"}
            answer = await self.ask("POST", "/v1/entries", content="\n".join(lines), headers=headers)
            assert answer.status_code == 202, answer.text
            self.events += EVENTS_EACH

    async def check_the_sum(self) -> None:
        """accepted = counted + pending in every answer, whatever is being killed."""
        while not self.ended.is_set():
            summary = (await self.ask("GET", "/v1/footfall/summary")).json()
            assert summary["accepted"] == summary["counted"] + summary["pending"]
            await asyncio.sleep(0.05)


async def torment(system: System, load: Load, chance: random.Random) -> None:
    """Kills a random role after every few orders."""
    try:
        for _ in range(KILLS):
            goal = len(load.orders) + chance.randint(*ORDERS_BETWEEN)
            deadline = time.monotonic() + PATIENCE_S
            while len(load.orders) < goal:
                assert time.monotonic() < deadline, "no orders are accepted any more"
                await asyncio.sleep(0.01)
            # On this thread: a process ends with the thread that started it.
            system.kill(chance.choice(system.roles))
    finally:
        load.ended.set()


async def settle(system: System, load: Load) -> None:
    """Waits until no order is open and no event is pending."""
    client = redis.Redis.from_url(system.server.url)
    deadline = time.monotonic() + PATIENCE_S
    while client.zcard(keys.ORDERS_OPEN) or (await load.ask("GET", "/v1/footfall/summary")).json()["pending"]:
        left = client.zrange(keys.ORDERS_OPEN, 0, 4)
        assert time.monotonic() < deadline, f"open orders: {[(i, client.hgetall(keys.order(i.decode()))) for i in left]}"
        await asyncio.sleep(0.05)
    client.close()


async def run(system: System, seed: int) -> Load:
    """The whole run; returns what was accepted."""
    async with httpx.AsyncClient(base_url=system.url, timeout=10, trust_env=False) as client:
        load = Load(client)
        await load.ask("GET", "/readyz")
        await load.ask("PUT", f"/v1/stock/{TRACKED_SKU}", json={"on_hand": ON_HAND})
        async with asyncio.TaskGroup() as group:
            for work in (load.send_orders(), load.send_entries(), load.check_the_sum()):
                group.create_task(work)
            group.create_task(torment(system, load, random.Random(seed)))
        await settle(system, load)
    return load


@pytest.fixture
def system(processes: Processes, free_port: int, carrier: Carrier) -> Iterator[System]:
    """A system with a Redis of its own, since that is killed too."""
    server = Server()
    server.start()
    yield System(server, processes, free_port, carrier.url)
    processes.end()
    server.remove()


@pytest.mark.parametrize("seed", [20101201])
def test_nothing_is_lost_and_nothing_is_done_twice_while_every_process_is_killed(
    system: System, carrier: Carrier, seed: int
) -> None:
    load = asyncio.run(run(system, seed))
    with httpx.Client(base_url=system.url, timeout=10, trust_env=False) as client:
        statuses = collections.Counter(client.get(f"/v1/orders/{order_id}").json()["status"] for order_id in load.orders)
        assert statuses == {"delivered": len(load.orders)}
        assert client.get("/v1/footfall", params={"bucket": "day"}).json()["totals"] == {"in": load.events, "out": 0}
        assert client.get("/v1/dead-letters").json()["count"] == 0
        sold = QUANTITY * sum(load.orders.values())
        stock = client.get(f"/v1/stock/{TRACKED_SKU}").json()
        assert (stock["on_hand"], stock["reserved"]) == (ON_HAND - sold, 0)
    assert all(len(carrier.bookings(order_id)) == 1 for order_id in load.orders)
