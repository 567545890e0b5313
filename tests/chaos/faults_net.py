"""What is done between the processes: the proxy before Redis delays, hangs, cuts and swallows; the carrier misbehaves."""

import functools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faults import Kind
from fleet import Fleet
from proxy import Mode

SHARES = (0.2, 0.5, 1.0)
DELAYS_S = (0.005, 0.05, 0.5)
STALL_S = (0.5, 4.0)
"""Shorter and longer than the couriers wait."""


def proxies(fleet: Fleet) -> list[str]:
    """None when Redis is reached directly."""
    return ["proxy"] if fleet.proxy else []


def carriers(fleet: Fleet) -> list[str]:
    """There is one."""
    return ["carrier"]


@asynccontextmanager
async def troubled(fleet: Fleet, target: str, chance: random.Random, mode: Mode) -> AsyncIterator[str]:
    """A share of the connections to Redis is struck."""
    if fleet.proxy is None:
        raise AssertionError("the fleet has no proxy")
    share, delay_s = chance.choice(SHARES), chance.choice(DELAYS_S)
    fleet.proxy.tell(mode, share=share, delay_s=delay_s)
    try:
        yield f"{share:.0%} of connections" + (f", {delay_s:g} s" if mode is Mode.DELAY else "")
    finally:
        fleet.proxy.tell()


@asynccontextmanager
async def misbehaving(fleet: Fleet, target: str, chance: random.Random, mode: str) -> AsyncIterator[str]:
    """The carrier fails, stalls before or after it has booked, or loses its answers."""
    delay_s = chance.uniform(*STALL_S)
    fleet.carrier.tell(mode=mode, delay_s=delay_s)
    try:
        yield f"{delay_s:.1f} s" if "stall" in mode else ""
    finally:
        fleet.carrier.tell(mode="ok")


KINDS = (
    *(
        Kind(f"proxy-{mode}", weight, proxies, (0.2, 4.0), functools.partial(troubled, mode=mode))
        for mode, weight in ((Mode.DELAY, 3), (Mode.HANG, 2), (Mode.CUT, 4), (Mode.SWALLOW, 5))
    ),
    *(
        Kind(f"carrier-{mode}", 1.5, carriers, (0.5, 5.0), functools.partial(misbehaving, mode=mode))
        for mode in ("fail", "stall", "stall_reply", "lose_reply")
    ),
)
