"""The process that enqueues for a contender's workers: `python pusher.py <module in contenders/> [variant]`.

Prints what the contender says about its workers. Then each line on stdin is an order, as JSON: `{job, calls: [[...]]}` enqueues
in bulk, with `per_s` one call after the other at that rate; the answer is a line with when each call began, or only the first.
"""

import asyncio
import importlib
import json
import os
import sys
import time
from typing import Any

AT_ONCE = 50


async def push(contender: Any, job: str, calls: list[list[Any]]) -> list[float]:
    """In bulk, by the library's own call where it has one; async ones many at a time."""
    began = time.monotonic()
    bulk = getattr(contender, "send_many", None)
    if bulk is not None:
        done = bulk(job, calls)
        if done is not None:
            await done
    else:
        left = iter(calls)

        async def share() -> None:
            for call in left:
                await one(contender, job, call)

        await asyncio.gather(*(share() for _ in range(AT_ONCE)))
    return [began]


async def one(contender: Any, job: str, call: list[Any]) -> None:
    """One job."""
    awaited = contender.send(job, *call)
    if awaited is not None:
        await awaited


async def trickle(contender: Any, job: str, calls: list[list[Any]], per_s: float) -> list[float]:
    """Evenly; a call that takes too long delays no later one's begin more than it must."""
    began, start = [], time.monotonic()
    for number, call in enumerate(calls):
        await asyncio.sleep(max(0.0, start + number / per_s - time.monotonic()))
        began.append(time.monotonic())
        await one(contender, job, call)
    return began


async def main() -> None:
    """Reads orders until stdin ends."""
    os.environ["BENCH_VARIANT"] = (sys.argv[2:] or [""])[0]
    contender = importlib.import_module(f"contenders.{sys.argv[1]}")
    print(json.dumps({name: workers._asdict() for name, workers in contender.WORKERS.items()}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pushing = trickle if "per_s" in order else push
        print(json.dumps(await pushing(contender, **order)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
