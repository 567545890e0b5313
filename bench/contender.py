"""One contender's process: `python contender.py <module in contenders/> single|bulk <jobs>`, with REDIS_URL set.

Warms up, says so, waits for a line on stdin, enqueues, and prints what that took as JSON.
"""

import asyncio
import importlib
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

WARM_UP = 200


async def loop(enqueue: Callable[[], Awaitable[None] | None], jobs: int) -> list[float]:
    """Enqueues one after the other, sync or async; returns the seconds of each call."""
    clock = time.perf_counter
    ends = [clock()]
    for _ in range(jobs):
        awaited = enqueue()
        if awaited is not None:
            await awaited
        ends.append(clock())
    return [end - start for start, end in itertools.pairwise(ends)]


async def run(contender: Any, mode: str, jobs: int) -> list[float]:
    """The seconds of each call, in order of length; in bulk there is one."""
    await loop(contender.enqueue, WARM_UP)
    print("ready", flush=True)
    sys.stdin.readline()
    calls = loop(contender.enqueue, jobs) if mode == "single" else loop(lambda: contender.enqueue_many(jobs), 1)
    return sorted(await calls)


def main() -> None:
    """Reads the arguments, runs, prints."""
    name, mode, jobs = sys.argv[1:]
    seconds = asyncio.run(run(importlib.import_module(f"contenders.{name}"), mode, int(jobs)))
    p50_s, p99_s = (seconds[len(seconds) * percent // 100] for percent in (50, 99))
    print(json.dumps({"total_s": sum(seconds), "p50_s": p50_s, "p99_s": p99_s}))


if __name__ == "__main__":
    main()
