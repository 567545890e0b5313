"""Redis is full for 20 s under load: `python tests/chaos/score_full.py`.

Clients place orders and count people, and send again what was not taken. In the middle `maxmemory` is set below what Redis
holds. Every answer must be 202, 429 or 503; afterwards all that was accepted must be delivered and counted, and everything
be taken again without a restart.
"""

import asyncio
import itertools
import time
from typing import Any

import score_ground
from processes import wait_for
from score_ground import Ground, ground
from score_mall import Clients, open_mall, statuses

from jobs import keys

BEFORE_S, FULL_S, AFTER_S = 5.0, 20.0, 15.0
ORDERING, ENTERING = 8, 8
LIMIT_S = 110.0
ALLOWED = {202, 429, 503}


def measure(_seed: int) -> tuple[dict[str, Any], str, int]:
    """One run."""
    with ground() as base:
        url, _carrier = open_mall(base)
        clients = Clients(url)
        refused, taken_after_s = asyncio.run(_drive(base, clients))
        wait_for(lambda: base.client.zcard(keys.ORDERS_OPEN) == 0, LIMIT_S, "all orders reach their end")
        wait_for(lambda: counts(base)[1] >= len(clients.entries), LIMIT_S, "all entries are counted")
        accepted, counted = counts(base)
        found = statuses(base, list(clients.orders.values()))
        ended = sum(not process.runs for process in base.processes.started)
    lost = len(clients.orders) - found["delivered"]
    off = abs(counted - len(clients.entries)) + abs(accepted - counted)
    odd = sum(n for status, n in clients.answers.items() if status not in ALLOWED)
    figures = {
        "answers": dict(clients.answers),
        "refused_while_full": refused,
        "orders": len(clients.orders),
        "orders_lost": lost,
    }
    figures |= {
        "entries": len(clients.entries),
        "entries_off": off,
        "longest_s": round(clients.longest_s, 3),
        "processes_ended": ended,
    }
    text = (
        f"Redis full for {FULL_S:g} s: {refused} answers were 503, and {odd} none of {sorted(ALLOWED)}; "
        f"of {len(clients.orders):,} orders {lost} lost, of {len(clients.entries):,} entries {off} lost or doubled; "
        f"longest answer {clients.longest_s:.2f} s; all taken again {taken_after_s:.2f} s after, "
        f"{ended} processes ended"
    )
    return {**figures, "taken_again_s": round(taken_after_s, 2)}, text, lost + off + odd + ended + (not refused)


async def _drive(base: Ground, clients: Clients) -> tuple[int, float]:
    """Loads, fills, empties; returns how much was refused meanwhile, and how long after it the last refusal came."""
    orders, entries = itertools.count(), itertools.count()
    load = [asyncio.create_task(clients.order(orders)) for _ in range(ORDERING)]
    load += [asyncio.create_task(clients.enter(entries)) for _ in range(ENTERING)]
    await asyncio.sleep(BEFORE_S)
    before = clients.answers[503]
    base.client.config_set("maxmemory", max(1, base.client.info("memory")["used_memory"] // 2))
    await asyncio.sleep(FULL_S)
    refused = clients.answers[503] - before
    base.client.config_set("maxmemory", 0)
    emptied_at = time.monotonic()
    await asyncio.sleep(AFTER_S)
    clients.stopped = True
    await asyncio.gather(*load)
    return refused, max(0.0, clients.last_refused_at - emptied_at)


def counts(base: Ground) -> tuple[int, int]:
    """Entries accepted and counted."""
    accepted, counted = base.client.hmget(keys.ENTRIES, "accepted", "counted")
    return int(accepted or 0), int(counted or 0)


if __name__ == "__main__":
    score_ground.main(__doc__ or "", measure)
