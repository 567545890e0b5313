"""Signals to the fleet's processes: killed, stopped and woken up, told to end; and wall clocks that jump."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from faults import NOBODY, Kind
from fleet import Fleet
from processes import Process

STOP_LIMIT_S = 30.0
"""What a platform gives a process between SIGTERM and SIGKILL."""
POLL_S = 0.02
TWICE_WITHIN_S = 1.0
JUMP_S = (30.0, 120.0)


def everyone(fleet: Fleet) -> list[str]:
    """Every process, each as often as another."""
    return fleet.names


def parents(fleet: Fleet) -> list[str]:
    """Those that run their jobs in children."""
    return [name for name in fleet.names if fleet.role(name) in ("packer", "worker", "stock")]


@asynccontextmanager
async def killed(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """SIGKILL to the process alone. What it leaves behind, as a stock worker its running child, lives on."""
    process = fleet.process(target)
    process.send(signal.SIGKILL)
    process.ended(STOP_LIMIT_S)
    try:
        yield f"{len(process.children())} children left"
    finally:
        fleet.start(target)


@asynccontextmanager
async def killed_all(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """SIGKILL to the process and all its children at once."""
    process = fleet.process(target)
    children = len(process.children())
    process.kill()
    try:
        yield f"with {children} children"
    finally:
        fleet.start(target)


@asynccontextmanager
async def killed_child(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """SIGKILL to one child, if there is any; its parent sees to it."""
    children, struck = fleet.process(target).children(), NOBODY
    if children:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(children), signal.SIGKILL)
            struck = f"1 of {len(children)}"
    yield struck


@asynccontextmanager
async def stopped(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """SIGSTOP to the process, or to it and its children, and SIGCONT after its leases have run out."""
    process = fleet.process(target)
    alone = chance.random() < 0.5
    for send in (process.send,) if alone else (process.send_all,):
        send(signal.SIGSTOP)
    try:
        yield "alone" if alone else "with its children"
    finally:
        process.send_all(signal.SIGCONT)


@asynccontextmanager
async def told_to_end(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """SIGTERM, as a platform sends it: to the process or to all of its session, once or twice; SIGKILL when it does not help."""
    process = fleet.process(target)
    send = chance.choice((process.send, process.send_all))
    twice = chance.random() < 0.3
    send(signal.SIGTERM)
    if twice:
        await asyncio.sleep(chance.uniform(0, TWICE_WITHIN_S))
        send(signal.SIGTERM)
    try:
        yield f"{'twice' if twice else 'once'}, {'alone' if send == process.send else 'with its children'}"
    finally:
        await _ended(process)
        fleet.start(target)


async def _ended(process: Process) -> None:
    deadline = time.monotonic() + STOP_LIMIT_S
    while process.runs and time.monotonic() < deadline:
        await asyncio.sleep(POLL_S)
    if process.runs:
        process.kill()


@asynccontextmanager
async def jumped(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """The wall clock of one process jumps, and back again."""
    ahead_s = chance.choice((-1, 1)) * chance.uniform(*JUMP_S)
    fleet.set_clock(target, ahead_s)
    try:
        yield f"{ahead_s:+.0f} s"
    finally:
        fleet.set_clock(target, 0.0)


RESTART_S = (0.0, 1.0)
KINDS = (
    Kind("kill", 12, everyone, RESTART_S, killed),
    Kind("kill-all", 10, everyone, RESTART_S, killed_all),
    Kind("kill-child", 8, parents, (0.0, 0.0), killed_child),
    Kind("stop", 8, everyone, (2.5, 7.0), stopped),
    Kind("term", 10, everyone, (0.0, 0.0), told_to_end),
    Kind("clock", 4, everyone, (1.0, 8.0), jumped),
)
