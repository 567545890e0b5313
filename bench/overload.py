"""Ten times what the whole system works off: `python bench/overload.py [--seconds 60] [--times 10] [--aof-always]`.

First orders are sent at the pace at which they are taken, and it is measured how many a second reach their end. Then ten times
as many arrive, on a clock of their own, whatever becomes of those before them, and a trickle of entries beside them; an answer's
time counts from the instant at which its request was due; beside it stands the time within the web process (stamped_web.py),
and how late the client itself was. Fails when an answer is none of 202, 429 and 503, when a request gets
none, when an accepted order does not reach its end, or when orders are not taken again soon after. The web, the workers, Redis
and the client share the cores.
"""

import argparse
import asyncio
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

import redis
import uvloop
from front import STAMP, Connection, order, running, serving
from server import Server, about

from jobs import keys

MAX_AGE_S = 2
"""Age of the oldest ready job from which orders are refused: short, so that shedding is seen within the run."""
MAX_CONNECTIONS = 400
CALIBRATION_S = 5.0
WARM_UP = 100
ENTRIES_A_SECOND = 50
GOOD_S = 0.05
RECOVERY_LIMIT_S = 30.0
DONE_LIMIT_S = 180.0
CARRIER = ("-m", "jobs.mall.carrier_service", "--port", "{PORT}", "--log")
WORKERS = ("rq.cli", "worker", "-w", "jobs.queue.worker.IoWorker", "entries", "picking", "packing", "delivery")


class Arrivals:
    """Requests on a clock of their own, over as many connections as they need, and what became of them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []
        self._made = 0
        self.unsent = 0
        self.answers: list[tuple[str, int, float, float]] = []
        self.late: list[float] = []
        self.accepted: list[str] = []

    async def arrive(self, path: str, per_s: float, seconds: float) -> None:
        """Sends requests, each at its own instant."""
        body, tasks, started = order(), set(), time.perf_counter()
        for number in range(int(per_s * seconds)):
            due_at = started + number / per_s
            if (early := due_at - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            task = asyncio.create_task(self.send(path, body, due_at))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if number % 50 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    async def send(self, path: str, body: bytes, due_at: float) -> int:
        """Sends one and notes its answer; 0 for one for which there is no connection left."""
        if not self._idle and self._made >= MAX_CONNECTIONS:
            self.unsent += 1
            return 0
        if self._idle:
            connection = self._idle.pop()
        else:
            self._made += 1
            connection = Connection(self._port)
        self.late.append(time.perf_counter() - due_at)
        key = uuid.uuid4().hex
        content = body if path == "/v1/orders" else f'{{"gate":"bench","event_id":"{key}"}}'.encode()
        try:
            answer = await connection.post(path, content, key)
        except (OSError, asyncio.IncompleteReadError) as error:
            sys.exit(f"no answer: {error!r}")
        self._idle.append(connection)
        inside_s = float(answer.head.partition(STAMP)[2].partition(b"\r")[0]) / 1_000
        self.answers.append((path, answer.status, time.perf_counter() - due_at, inside_s))
        if answer.status == 202 and path == "/v1/orders":
            self.accepted.append(answer.body.partition(b'"id":"')[2].partition(b'"')[0].decode())
        return answer.status


def delivered(client: redis.Redis) -> int:
    """Orders at their end."""
    found: int = client.zcard(keys.STATUS_PREFIX + "delivered")
    return found


async def capacity(port: int, client: redis.Redis) -> float:
    """Orders a second that reach their end while some always wait."""
    arrivals, over = Arrivals(port), asyncio.Event()

    async def drive() -> None:
        while not over.is_set():
            if await arrivals.send("/v1/orders", order(), time.perf_counter()) != 202:
                await asyncio.sleep(0.05)

    driving = [asyncio.create_task(drive()) for _ in range(8)]
    while delivered(client) < WARM_UP:  # noqa: ASYNC110  the workers tell nobody
        await asyncio.sleep(0.05)
    before, started = delivered(client), time.perf_counter()
    await asyncio.sleep(CALIBRATION_S)
    rate = (delivered(client) - before) / (time.perf_counter() - started)
    over.set()
    await asyncio.gather(*driving)
    await until_done(client, arrivals.accepted)
    return rate


async def until_done(client: redis.Redis, accepted: Sequence[str]) -> None:
    """Waits until no order is open; all that were accepted must have been delivered then. Those that were answered with 503
    when the answer of Redis came too late may be among the others."""
    limit = time.monotonic() + DONE_LIMIT_S
    while open_orders := client.zcard(keys.ORDERS_OPEN):
        if time.monotonic() > limit:
            sys.exit(f"{open_orders} orders did not reach their end within {DONE_LIMIT_S:g} s")
        await asyncio.sleep(0.1)
    ended = client.zmscore(keys.STATUS_PREFIX + "delivered", accepted) if accepted else []
    if None in ended:
        sys.exit(f"{ended.count(None)} of {len(accepted)} accepted orders were not delivered")


async def recovery(arrivals: Arrivals) -> float:
    """Seconds until an order is accepted quickly again."""
    started = time.perf_counter()
    while time.perf_counter() - started < RECOVERY_LIMIT_S:
        sent_at = time.perf_counter()
        if await arrivals.send("/v1/orders", order(), sent_at) == 202 and time.perf_counter() - sent_at <= GOOD_S:
            return time.perf_counter() - started
        await asyncio.sleep(0.1)
    sys.exit(f"no order was taken quickly within {RECOVERY_LIMIT_S:g} s of the end")


def show(arrivals: Arrivals, seconds: float) -> None:
    """A line for each path and status: the client's time, in brackets the web's part of it, and the client's lateness."""
    answers = arrivals.answers
    for (path, status), count in sorted(Counter(answer[:2] for answer in answers).items()):
        times = [answer[2:] for answer in answers if answer[:2] == (path, status)]
        took, inside = _quantiles([seen_s for seen_s, _ in times]), _quantiles([web_s for _, web_s in times])
        shown = "   ".join(f"{name} {took[name]:6.1f} ms ({inside[name]:.1f})" for name in took)
        print(f"{path:12} {status}  {count / seconds:8,.0f}/s   {shown}", flush=True)
    print("client late by", "   ".join(f"{name} {late:.1f} ms" for name, late in _quantiles(arrivals.late).items()))
    if arrivals.unsent:
        print(f"{arrivals.unsent:,} found all {MAX_CONNECTIONS} connections busy and were not sent")


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    found = sorted(seconds)
    return {
        name: found[min(len(found) - 1, int(len(found) * share))] * 1_000
        for name, share in (("p50", 0.5), ("p99", 0.99), ("longest", 1))
    }


async def run(server: Server, seconds: float, times: float) -> None:
    """Calibrates, overloads, waits, and says what was seen."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        carrier = stack.enter_context(serving(server.url, *CARRIER, f"{folder}/effects"))
        settings = {"CARRIER_URL": f"http://127.0.0.1:{carrier}", "TURNSTILE_MAX_QUEUE_AGE_S": str(MAX_AGE_S)}
        settings["TURNSTILE_KEEP_ALIVE_S"] = "600"  # a connection that idles must not be closed just when it is used again
        port = stack.enter_context(serving(server.url, "-m", "stamped_web", **settings))
        stack.enter_context(running(server.url, "-m", *WORKERS, RQ_CONFIG="jobs.rq_config", **settings))
        stack.enter_context(running(server.url, "-m", "scheduler", **settings))
        rate = await capacity(port, server.client)
        print(f"worked off: {rate:,.0f} orders/s; offered: {rate * times:,.0f}/s for {seconds:g} s", flush=True)
        arrivals = Arrivals(port)
        loads = (("/v1/orders", rate * times), ("/v1/entries", ENTRIES_A_SECOND))
        started = time.perf_counter()
        await asyncio.gather(*(arrivals.arrive(path, per_s, seconds) for path, per_s in loads))
        took = time.perf_counter() - started
        show(arrivals, took)
        recovered_s = await recovery(arrivals)
        await until_done(server.client, arrivals.accepted)
        print(f"orders were taken again after {recovered_s:.1f} s; all {len(arrivals.accepted):,} accepted reached their end")
        strange = {status for _path, status, *_times in arrivals.answers} - {202, 429, 503}
        if strange:
            sys.exit(f"answers that must not be: {strange}")
        if 503 not in {status for _path, status, *_times in arrivals.answers}:
            sys.exit("nothing was shed: the load was no overload")


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--aof-always", action="store_true")
    options = parser.parse_args()
    server = Server(aof_always=options.aof_always)
    try:
        print(about(server.about()), flush=True)
        uvloop.run(run(server, options.seconds, options.times))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
