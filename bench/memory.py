"""What a job costs in Redis, waiting and done: `python bench/memory.py [--jobs 10000]`, ours beside stock RQ.

The growth of the server's `used_memory` over many jobs, a job's share: hash, list entry, indexes, result, everything. The
jobs are enqueued as in enqueue.py and then run by real workers, `rq worker --burst` with our configuration and RQ's own
SimpleWorker, whose jobs leave the same behind as its Worker's. `orders.pack` is a step of an order that is not there:
what it costs beside the order itself.
"""

import argparse
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable

from contender import WARM_UP
from enqueue import Run
from peers import ENVIRON, STOCK
from server import Server, about

from jobs import connections
from jobs.mall.accepting import new_order_id
from jobs.mall.orders import Step
from jobs.mall.steps import step_spec
from jobs.queue import calling
from jobs.queue.samples import add
from jobs.queue.task import by_name

RQ_COMMAND = "from rq.cli.cli import main; main()"


def worker(python: str, *arguments: str, **environ: str) -> None:
    """Runs the stock `rq worker` command of an interpreter until its queue is empty."""
    command = [python, "-c", RQ_COMMAND, "worker", "--burst", *arguments]
    done = subprocess.run(command, env={**ENVIRON, **environ}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def grown(server: Server, before: int, jobs: int) -> float:
    """Bytes a job since `before`."""
    return (server.client.info("memory")["used_memory"] - before) / jobs


def measure(server: Server, name: str, jobs: int, enqueue: Callable[[int], object], work: Callable[[], object]) -> None:
    """Enqueues, weighs, works off, weighs again, and prints both; a small pass before loads scripts and code."""
    enqueue(WARM_UP)
    work()
    server.empty()
    before = server.client.info("memory")["used_memory"]
    enqueue(jobs)
    waiting = grown(server, before, jobs)
    work()
    print(f"{name:40}{waiting:12,.0f}{grown(server, before, jobs):12,.0f}")


def add_by_ours(jobs: int) -> None:
    """Jobs of the smallest kind."""
    add.enqueue_many([(3, 4)] * jobs)


def pack_by_ours(jobs: int) -> None:
    """Steps of orders, with ids as orders and steps have them."""
    now = time.time()
    for _ in range(jobs):
        order_id = new_order_id(now)
        calling.enqueue(connections.process_client(), step_spec(order_id, Step.PACK, now), now=now)


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    jobs = parser.parse_args().jobs
    server = Server(aof_always=False)
    os.environ.update(REDIS_URL=server.url, TURNSTILE_SAMPLES="1")
    stock = ("-w", "rq.SimpleWorker", "--url", server.url)
    try:
        print(f"{about(server.about())}\n\n{f'{jobs:,} jobs, bytes each':40}{'waiting':>12}{'finished':>12}")
        add_queue, pack_queue = add.queue, by_name("orders.pack").queue
        ours = functools.partial(
            worker, sys.executable, REDIS_URL=server.url, RQ_CONFIG="jobs.rq_config", TURNSTILE_LOG_LEVEL="ERROR"
        )
        measure(server, "turnstile samples.add(3, 4)", jobs, add_by_ours, lambda: ours(add_queue))
        measure(server, "turnstile orders.pack(id)", jobs, pack_by_ours, lambda: ours(pack_queue))
        measure(
            server,
            f"{STOCK.title} add(3, 4)",
            jobs,
            lambda n: Run(server, STOCK, "bulk", n - WARM_UP).go(),
            lambda: worker(STOCK.python(), *stock, "stock"),
        )
    finally:
        server.stop()


if __name__ == "__main__":
    main()
