"""How late the process is: known while it matters, and only then asked."""

import asyncio
import time

import pytest

from web import lag
from web.lag import TICK_S, Lag

BLOCKED_S = 0.05
LIMIT_S = 20.0


def test_a_blocked_loop_is_late_by_the_time_that_it_was_blocked() -> None:
    async def run() -> None:
        late = Lag()
        late.watch()
        time.sleep(BLOCKED_S)
        assert late.late_s(time.monotonic()) >= BLOCKED_S - TICK_S

    asyncio.run(run())


def test_a_loop_that_turns_is_in_time_again() -> None:
    async def run() -> None:
        late = Lag()
        late.watch()
        time.sleep(BLOCKED_S)
        deadline = time.monotonic() + LIMIT_S
        while late.late_s(time.monotonic()) >= TICK_S:
            assert time.monotonic() < deadline
            late.watch()
            await asyncio.sleep(0)

    asyncio.run(run())


def test_nobody_is_late_while_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "WATCHED_S", 0.0)

    async def run() -> None:
        late = Lag()
        assert late.late_s(time.monotonic()) == 0
        late.watch()
        time.sleep(BLOCKED_S)
        assert late.late_s(time.monotonic()) == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
