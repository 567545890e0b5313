"""One contender's process: `python contender.py <module in contenders/> single|bulk <jobs>`, with REDIS_URL set.

Warms up, says so, waits for a line on stdin, enqueues, and prints what that took as JSON.
"""

import asyncio
import importlib
import inspect
import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

WARM_UP = 200


def loop(enqueue: Callable[[], Any], jobs: int) -> list[float]:
    """Enqueues one after the other; returns the seconds of each call."""
    clock = time.perf_counter
    ends = [clock()]
    for _ in range(jobs):
        enqueue()
        ends.append(clock())
    return [end - start for start, end in itertools.pairwise(ends)]


async def async_loop(enqueue: Callable[[], Any], jobs: int) -> list[float]:
    """`loop` for an async contender."""
    clock = time.perf_counter
    ends = [clock()]
    for _ in range(jobs):
        await enqueue()
        ends.append(clock())
    return [end - start for start, end in itertools.pairwise(ends)]


def wait_for_start() -> None:
    """Tells that the warm-up is over and waits for the word."""
    print("ready", flush=True)
    sys.stdin.readline()


def run(contender: Any, mode: str, jobs: int) -> list[float]:
    """The seconds of each call; in bulk there is one."""
    loop(contender.enqueue, WARM_UP)
    wait_for_start()
    return loop(contender.enqueue, jobs) if mode == "single" else loop(lambda: contender.enqueue_many(jobs), 1)


async def run_async(contender: Any, mode: str, jobs: int) -> list[float]:
    """`run` for an async contender, on one event loop."""
    await async_loop(contender.enqueue, WARM_UP)
    wait_for_start()
    return await (
        async_loop(contender.enqueue, jobs) if mode == "single" else async_loop(lambda: contender.enqueue_many(jobs), 1)
    )


def main() -> None:
    """Reads the arguments, runs, prints."""
    name, mode, jobs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    contender = importlib.import_module(f"contenders.{name}")
    if inspect.iscoroutinefunction(contender.enqueue):
        seconds = asyncio.run(run_async(contender, mode, jobs))
    else:
        seconds = run(contender, mode, jobs)
    seconds_each = sorted(seconds)
    print(
        json.dumps(
            {"total_s": sum(seconds), "p50_s": seconds_each[len(seconds) // 2], "p99_s": seconds_each[len(seconds) * 99 // 100]}
        )
    )


if __name__ == "__main__":
    main()
