"""How often a carrier that is down is called: `python tests/chaos/score_outage.py`.

2,000 orders meet a carrier that answers 503 for 60 s. Counted are its calls until all orders are delivered, by its own log.
Beside it, computed from the instants at which the orders came to their delivery, what each alone would have called: every 5
s, as a stock `Retry(max=n, interval=5)` does, and with our backoff without the circuit breaker.
"""

import asyncio
import random
import time
from typing import Any

import httpx
import score_ground
from processes import wait_for
from score_ground import Ground, ground
from score_mall import Clients, open_mall, statuses

from jobs import keys
from jobs.queue import breaker

ORDERS, CLIENTS = 2_000, 20
OUTAGE_S = 60.0
INTERVAL_S = 5.0
BASE_S, CAP_S = 1.0, 300.0
"""The backoff of the settings."""
LIMIT_S = 240.0


def measure(seed: int) -> tuple[dict[str, Any], str, int]:
    """One run."""
    with ground(TURNSTILE_MAX_QUEUE_AGE_S="600") as base:
        url, carrier = open_mall(base)
        _told(carrier, mode="fail")
        clients, numbers = Clients(url), iter(range(ORDERS))
        down_until = time.time() + OUTAGE_S
        asyncio.run(_place(clients, numbers))
        wait_for(lambda: time.time() > down_until, LIMIT_S, "the outage ends")
        came_at = _came_at(base)
        refused = _told(carrier, mode="ok")
        wait_for(lambda: base.client.zcard(keys.ORDERS_OPEN) == 0, LIMIT_S, "all orders reach their end")
        late_s = time.time() - down_until
        opened = sum(state.opened for state in breaker.states(base.client, time.time()))
        booked = int(httpx.get(f"{carrier}/shipments", trust_env=False).json()["count"])
        found = statuses(base, list(clients.orders.values()))
    chance = random.Random(seed)
    waits = [down_until - at for at in came_at if at < down_until]
    fixed = sum(int(wait_s / INTERVAL_S) + 2 for wait_s in waits)
    jittered = sum(_calls(wait_s, chance) for wait_s in waits)
    ours = refused + booked
    wrong = abs(found["delivered"] - ORDERS) + abs(booked - ORDERS)
    per = {name: round(calls / ORDERS, 2) for name, calls in (("ours", ours), ("every_5_s", fixed), ("no_breaker", jittered))}
    figures = {
        "orders": ORDERS,
        "outage_s": OUTAGE_S,
        "calls_in_outage": refused,
        "calls_an_order": per,
        "breaker_opened": opened,
    }
    text = (
        f"carrier down for {OUTAGE_S:g} s under {ORDERS:,} orders: {per['ours']} calls an order "
        f"({refused} in the outage, breaker opened {opened} times); computed: {per['every_5_s']} every {INTERVAL_S:g} s, "
        f"{per['no_breaker']} with backoff alone; all ended {late_s:.0f} s later, {booked:,} booked once"
    )
    return {**figures, "delivered": found["delivered"], "late_s": round(late_s, 1)}, text, wrong


async def _place(clients: Clients, numbers: Any) -> None:
    await asyncio.gather(*(clients.order(numbers) for _ in range(CLIENTS)))


def _told(carrier: str, *, mode: str) -> int:
    """Tells the carrier how to behave; returns how often it had misbehaved."""
    used = int(httpx.get(f"{carrier}/control", trust_env=False).json()["used"])
    httpx.post(f"{carrier}/control", json={"mode": mode}, trust_env=False).raise_for_status()
    return used


def _came_at(base: Ground) -> list[float]:
    """When each order came to its delivery."""
    return [float(event[b"at"]) for _id, event in base.client.xrange(keys.EVENTS) if event[b"status"] == b"delivering"]


def _calls(wait_s: float, chance: random.Random) -> int:
    """The calls of one order that retries with full jitter until the carrier works again."""
    at, calls = 0.0, 1
    while at < wait_s:
        at += chance.uniform(0, min(CAP_S, BASE_S * 2 ** (calls - 1)))
        calls += 1
    return calls


if __name__ == "__main__":
    score_ground.main(__doc__ or "", measure)
