"""What a fault is: a name, how often it is drawn, whom it may meet, how long it lasts, and a context that does and undoes it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from fleet import Fleet

NOBODY = "nobody"
"""The particulars of a fault that found nobody to strike: it has not been."""
Deed = Callable[[Fleet, str, random.Random], AbstractAsyncContextManager[str]]
"""Entering does it, to the target, and tells the particulars; leaving undoes it."""


@dataclass(slots=True)
class Fault:
    """One that was done. The instants are Unix seconds."""

    name: str
    role: str
    target: str
    began_at: float = field(default_factory=time.time)
    healed_at: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault; `weight` and `hold_s` (shortest, longest) are for the draw."""

    name: str
    weight: float
    targets: Callable[[Fleet], Sequence[str]]
    hold_s: tuple[float, float]
    deed: Deed


@asynccontextmanager
async def repeating(act: Callable[[], Awaitable[object]], every_s: float) -> AsyncIterator[None]:
    """Does it again and again, until left. What goes wrong with it is raised there."""

    async def again() -> None:
        while not over.is_set():
            await act()
            await asyncio.sleep(every_s)

    over = asyncio.Event()
    task = asyncio.create_task(again())
    try:
        yield
    finally:
        over.set()
        await task
