"""Batches for the tests: each item says what is to become of it."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import redis
from sample_tasks import LATER, POLL_S, SOON

from jobs.errors import CircuitOpen, DrainTimeout, Permanent
from jobs.queue.backoff import Backoff
from jobs.queue.batches import Item, batch

CALLS: list[list[str]] = []
"""The ids that the functions were given in this process, call by call."""


def _outcome(item: Item) -> Any:
    match item.value:
        case {"fail": reason}:
            return ValueError(reason)
        case {"refuse": reason}:
            return Permanent(reason)
        case {"give": "object"}:
            return object()
        case {"raise": kind}:
            raise {
                "error": ValueError("all of it"),
                "exit": SystemExit(3),
                "away": redis.exceptions.ConnectionError("gone"),
                "circuit": CircuitOpen("carrier", time.time() + 60),
                "drain": DrainTimeout(),
            }[kind]
        case {"die": _}:
            os.kill(os.getpid(), signal.SIGKILL)
        case {"hold": folder}:
            Path(folder, f"started-{item.id}").touch()
            while not Path(folder, "go").exists():
                time.sleep(POLL_S)
    return item.value


@batch(name="sample.gather", max_items=3, retry=SOON)
def gather(items: list[Item]) -> list[Any]:
    """Three at a time."""
    CALLS.append([item.id for item in items])
    return [_outcome(item) for item in items]


@batch(name="sample.linger", max_items=3, linger_s=60.0, retry=LATER, result_ttl_s=0)
async def linger(items: list[Item]) -> dict[str, Any]:
    """Three together, or what has come within a minute; says only what failed."""
    CALLS.append([item.id for item in items])
    outcomes = {item.id: _outcome(item) for item in items}
    return {item_id: outcome for item_id, outcome in outcomes.items() if isinstance(outcome, Exception)}


@batch(name="sample.hang", time_limit_s=0.3, retry=Backoff(max_attempts=1))
async def hang(items: list[Item]) -> None:
    """Takes as many seconds as the items say."""
    for item in items:
        await asyncio.sleep(item.value)


@batch(name="sample.keep", result_ttl_s=-1)
def keep(items: list[Item]) -> list[Any]:
    """Its results are kept for ever."""
    return [item.value for item in items]
