"""Redis is killed 50 times under load: `python tests/chaos/score_redis_kills.py`.

Half of the SIGKILLs with `appendfsync always`, half with `everysec`, which may lose what was answered in the last second
when the machine itself fails; a process that is killed leaves what it wrote to the kernel. Clients place orders and count
people, and send again what was not taken; nothing else is started again.
"""

import asyncio
import itertools
import random
from typing import Any

import score_ground
from processes import wait_for
from score_full import counts
from score_ground import ground
from score_mall import Clients, open_mall, statuses

from jobs import keys

KILLS = 25
BETWEEN = 10
"""Requests that are taken between two kills, at least."""
CLIENTS = 8
LIMIT_S = 110.0
ALLOWED = {202, 429, 503}


def measure(seed: int) -> tuple[dict[str, Any], str, int]:
    """One run of each."""
    chance, figures, wrong = random.Random(seed), dict[str, Any](), 0
    for fsync in ("always", "everysec"):
        figures[fsync], lost = _run(fsync, chance)
        wrong += lost
    text = "; ".join(
        f"{fsync}: {KILLS} kills, of {row['orders']:,} orders {row['orders_lost']} lost, of {row['entries']:,} entries "
        f"{row['entries_off']} lost or doubled, {row['odd_answers']} odd answers, {row['processes_ended']} processes ended"
        for fsync, row in figures.items()
    )
    return {"kills": 2 * KILLS, **figures}, text, wrong


def _run(fsync: str, chance: random.Random) -> tuple[dict[str, int], int]:
    with ground(fsync=fsync, TURNSTILE_RECONCILE_AFTER_S="2") as base:
        url, _carrier = open_mall(base)
        clients = Clients(url)

        async def torment() -> None:
            orders, entries = itertools.count(), itertools.count()
            load = [asyncio.create_task(clients.order(orders)) for _ in range(CLIENTS)]
            load += [asyncio.create_task(clients.enter(entries)) for _ in range(CLIENTS)]
            for _ in range(KILLS):
                goal = clients.answers[202] + BETWEEN
                async with asyncio.timeout(LIMIT_S):
                    while clients.answers[202] < goal:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(chance.random() * 0.3)
                base.server.kill()
                base.server.start()  # not in a thread: it would end with that
            clients.stopped = True
            await asyncio.gather(*load)

        asyncio.run(torment())
        wait_for(lambda: base.client.zcard(keys.ORDERS_OPEN) == 0, LIMIT_S, "all orders reach their end")
        wait_for(lambda: counts(base)[0] == counts(base)[1], LIMIT_S, "all entries are counted")
        found = statuses(base, list(clients.orders.values()))
        row = {
            "orders": len(clients.orders),
            "orders_lost": len(clients.orders) - found["delivered"],
            "entries": len(clients.entries),
            "entries_off": abs(counts(base)[1] - len(clients.entries)),
            "odd_answers": sum(n for status, n in clients.answers.items() if status not in ALLOWED),
            "processes_ended": sum(not process.runs for process in base.processes.started),
        }
    return row, sum(row[name] for name in ("orders_lost", "entries_off", "odd_answers", "processes_ended"))


if __name__ == "__main__":
    score_ground.main(__doc__ or "", measure)
