"""Orders accepted a second, beside the same accept by RQ in threads: `python bench/orders.py [--aof-always] [--kills 50]`.

One web process each, 32 connections, rounds that alternate (ours, RQ, ours, RQ); client, web and Redis share the cores. With
`--kills` Redis is killed (SIGKILL, appendfsync always) again and again while orders are sent, each until it is accepted, and in
the end every acknowledged one must be there, once. No workers: what is measured is the accept.
"""

import argparse
import asyncio
import statistics
import sys
import time
import uuid
from pathlib import Path

import redis
import uvloop
from front import Connection, order, serving
from server import Server, about

from jobs import keys

CONNECTIONS = 32
SHOPPERS = 16
ORDERS_A_KILL = 100
WARM_UP = 300
BACK_OFF_S = 0.02
BY_RQ = str(Path(__file__).with_name("orders_by_rq.py"))


async def load(port: int, n_orders: int) -> tuple[float, int]:
    """Sends the orders, each until it is accepted; returns how many a second were, and how many answers were 503."""
    left, body, refused = [uuid.uuid4().hex for _ in range(n_orders)], order(), 0

    async def drive() -> None:
        nonlocal refused
        connection = Connection(port)
        while left:
            key = left.pop()
            while (answer := await connection.post("/v1/orders", body, key)).status != 202:
                if answer.status != 503:
                    sys.exit(f"not accepted: {answer}")
                refused += 1
                await asyncio.sleep(BACK_OFF_S)
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(drive() for _ in range(CONNECTIONS)))
    return n_orders / (time.perf_counter() - started), refused


async def compare(server: Server, rounds: int, n_orders: int) -> None:
    """Rounds that alternate; prints each, the medians and their ratio."""
    with serving(server.url) as ours, serving(server.url, BY_RQ) as theirs:
        rates: dict[str, list[float]] = {"ours": [], "RQ in threads": []}
        n_refused = 0
        for port in (ours, theirs):
            await load(port, WARM_UP)
        for _ in range(rounds):
            for name, port in zip(rates, (ours, theirs), strict=True):
                server.empty()
                rate, refused = await load(port, n_orders)
                rates[name].append(rate)
                n_refused += refused
    for name, found in rates.items():
        print(f"{name:14} {statistics.median(found):8,.0f} orders/s   rounds: {', '.join(f'{rate:,.0f}' for rate in found)}")
    print(f"ratio {statistics.median(rates['ours']) / statistics.median(rates['RQ in threads']):.1f}, {n_refused} answers of 503")


async def torment(server: Server, kills: int) -> None:
    """Kills Redis while orders are sent; exits with an error when an acknowledged one is lost or doubled."""
    told: list[str] = []
    over = asyncio.Event()
    with serving(server.url) as port:

        async def shop() -> None:
            connection, body = Connection(port), order()
            while not over.is_set():
                key, status = uuid.uuid4().hex, 0
                while status != 202:  # with the same key
                    answer = await connection.post("/v1/orders", body, key)
                    status = answer.status
                    if status not in (202, 503):
                        sys.exit(f"neither accepted nor refused for now: {answer}")
                    if status == 503:
                        await asyncio.sleep(BACK_OFF_S)
                told.append(answer.body.partition(b'"id":"')[2].partition(b'"')[0].decode())

        shoppers = [asyncio.create_task(shop()) for _ in range(SHOPPERS)]
        for _ in range(kills):
            goal = len(told) + ORDERS_A_KILL
            while len(told) < goal:  # noqa: ASYNC110  many set it
                await asyncio.sleep(0.002)
            await asyncio.to_thread(server.kill_and_start)
        over.set()
        await asyncio.gather(*shoppers)
    check(server.client, told, kills)


def check(client: redis.Redis, told: list[str], kills: int) -> None:
    """Every acknowledged order is there, and there is no other."""
    kept = {member.decode() for member in client.zrange(keys.ORDERS, 0, -1)}
    picked = client.llen(keys.PICK_BUFFER)
    print(f"{kills} SIGKILLs of Redis: {len(told):,} orders acknowledged, {len(kept):,} kept, {picked:,} wait for picking")
    if set(told) != kept or len(set(told)) != len(told) or picked != len(kept):
        sys.exit(f"lost {len(set(told) - kept)}, unacknowledged {len(kept - set(told))}, doubled {len(told) - len(set(told))}")


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=4_000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--aof-always", action="store_true")
    options = parser.parse_args()
    server = Server(aof_always=options.aof_always or options.kills > 0)
    try:
        print(about(server.about()), flush=True)
        uvloop.run(torment(server, options.kills) if options.kills else compare(server, options.rounds, options.orders))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
