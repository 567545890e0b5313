"""Time limits in an IoWorker's process: of code that awaits, blocks the loop, or runs in a thread; and of nobody else's code."""

import asyncio
import contextlib
import itertools
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from io_driver import Driver, error_of
from processes import Processes

from jobs.errors import DrainTimeout, SoftTimeLimitExceeded, TimeLimitExceeded
from jobs.queue import io_executor, main_loop

FOREVER_S = 3_600.0
LIMIT_S = 0.1
SOON_S = 10.0
IN_DESTRUCTORS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""What is raised in another thread may fall into a destructor that happens to run there, and is then lost."""


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(monkeypatch)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can: what may come between two lines does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def spin(seconds: float = FOREVER_S) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def nap(seconds: float) -> None:
    time.sleep(seconds)


def swallow() -> None:
    while True:
        with contextlib.suppress(Exception):  # what many tasks do
            spin(0.001)


async def awaits() -> None:
    await asyncio.sleep(FOREVER_S)


async def awaits_and_swallows() -> None:
    while True:
        with contextlib.suppress(Exception):
            await asyncio.sleep(0.001)


async def sleeps_on_the_loop() -> None:
    await asyncio.sleep(0)
    time.sleep(FOREVER_S)


async def spins_on_the_loop() -> None:
    spin()


async def swallows_on_the_loop() -> None:
    await asyncio.sleep(0)
    swallow()


async def group_of_groups() -> None:
    async with asyncio.TaskGroup() as outer:
        outer.create_task(awaits())
        async with asyncio.TaskGroup() as inner:
            inner.create_task(awaits())
            await awaits()


async def child_spins() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(spins_on_the_loop())
        group.create_task(awaits())


async def gathered_child_sleeps() -> None:
    await asyncio.gather(sleeps_on_the_loop(), awaits())


async def asks_a_generator() -> None:
    def numbers() -> Any:
        while True:
            spin(0.01)
            yield

    for _ in numbers():
        pass


LONG: list[Callable[..., Any]] = [
    spin,
    swallow,
    awaits,
    awaits_and_swallows,
    sleeps_on_the_loop,
    spins_on_the_loop,
    swallows_on_the_loop,
    group_of_groups,
    child_spins,
    gathered_child_sleeps,
    asks_a_generator,
]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("function", LONG, ids=lambda function: function.__name__)
def test_a_job_past_its_hard_limit_has_failed_and_the_others_go_on(
    function: Callable[..., Any], loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loop == "asyncio":
        monkeypatch.setattr(main_loop, "new_event_loop", asyncio.new_event_loop)
    monkeypatch.setattr(io_executor, "GRACE_S", SOON_S)
    driver = Driver(monkeypatch)

    def script() -> None:
        others = [driver.claim(asyncio.sleep, 0.3), driver.claim(nap, 0.3)]
        long = driver.claim(function, limit_s=LIMIT_S)
        driver.submit(*others, long)
        assert error_of(driver.outcome(long)) == ("retry", "TimeLimitExceeded")
        assert [driver.outcome(claim).what for claim in others] == ["finished"] * 2
        failed = driver.outcomes[long.id].failed
        assert failed is not None
        assert failed.error == f"ran longer than its time limit of {LIMIT_S:g} s"
        assert failed.ended_at - failed.started_at < SOON_S / 2

    driver.run(script)
    assert not driver.twice


def soft_blocking() -> list[float]:
    caught = []
    for seconds in (FOREVER_S, 0.3):
        try:
            spin(seconds)
        except SoftTimeLimitExceeded as limit:
            caught.append(limit.limit_s)
    return caught


async def soft_awaiting() -> list[float]:
    caught = []
    for seconds in (FOREVER_S, 0.3):
        try:
            await asyncio.sleep(seconds)
        except SoftTimeLimitExceeded as limit:
            caught.append(limit.limit_s)
    return caught


async def soft_on_the_loop() -> list[float]:
    return soft_blocking()


@pytest.mark.parametrize("function", [soft_blocking, soft_awaiting, soft_on_the_loop], ids=lambda function: function.__name__)
def test_the_soft_limit_is_raised_once_and_may_be_caught(driver: Driver, function: Callable[..., Any]) -> None:
    driver.run(lambda: _finishes(driver, function, f"[{LIMIT_S}]"))


def _finishes(driver: Driver, function: Callable[..., Any], result: str) -> None:
    outcome = driver.do(driver.claim(function, soft_s=LIMIT_S))
    assert (outcome.what, outcome.result.decode()) == ("finished", result)


def test_a_soft_limit_that_is_not_caught_fails_the_attempt(driver: Driver) -> None:
    def script() -> None:
        for function in (spin, awaits, spins_on_the_loop):
            outcome = driver.do(driver.claim(function, soft_s=LIMIT_S))
            assert error_of(outcome) == ("retry", "SoftTimeLimitExceeded")

    driver.run(script)


def test_a_thread_that_hangs_is_given_up_and_replaced_and_comes_back_to_no_effect(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io_executor, "GRACE_S", 0.2)
    hanging = threading.Lock()
    hanging.acquire()

    def hangs() -> str:
        hanging.acquire()  # a C call
        return "too late"

    def script() -> None:
        claim = driver.claim(hangs, limit_s=LIMIT_S)
        assert error_of(driver.do(claim)) == ("retry", "TimeLimitExceeded")
        assert driver.do(driver.claim(spin, 0.01)).what == "finished"  # in the one slot
        assert len(driver.executor._threads.hanging) == 1
        hanging.release()
        driver.wait(lambda: not driver.executor._threads.hanging)
        assert len(driver.outcomes) == 2

    driver.run(script, size=1)
    assert not driver.twice


def test_a_coroutine_that_does_not_end_is_given_up(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io_executor, "GRACE_S", 0.2)
    closed = [True]

    async def stays() -> None:
        while closed:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(0.001)

    def script() -> None:
        assert error_of(driver.do(driver.claim(stays, limit_s=LIMIT_S))) == ("retry", "TimeLimitExceeded")
        assert driver.do(driver.claim(asyncio.sleep, 0)).what == "finished"
        closed.clear()

    driver.run(script, size=1)
    assert not driver.twice


def test_a_worker_with_more_hanging_threads_than_slots_asks_itself_to_stop(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io_executor, "GRACE_S", 0.05)
    hanging = threading.Semaphore(0)
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))

    def hangs() -> None:
        hanging._cond.acquire()  # type: ignore[attr-defined]

    def script() -> None:
        hanging._cond.acquire()  # type: ignore[attr-defined]
        try:
            for n_hanging in range(1, 4):
                assert not asked
                driver.do(driver.claim(hangs, limit_s=0.05))
                assert len(driver.executor._threads.hanging) == n_hanging
            driver.wait(lambda: asked == [signal.SIGTERM])
        finally:
            hanging._cond.release()  # type: ignore[attr-defined]

    try:
        driver.run(script, size=2)
    finally:
        signal.signal(signal.SIGTERM, before)


@IN_DESTRUCTORS
@pytest.mark.parametrize("kind", ["thread", "coroutine", "loop"])
def test_limits_that_expire_as_their_jobs_end_hit_nothing_else(
    driver: Driver, kind: str, restless: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the jobs run about as long as their limit, the other half has none and must not notice."""

    def about(seconds: float) -> int:
        spin(seconds)
        return 1

    def innocent() -> int:
        return sum(range(50))

    async def about_later(seconds: float) -> int:
        await asyncio.sleep(seconds)
        return 1

    async def innocent_later() -> int:
        await asyncio.sleep(0)
        return innocent()

    async def about_on_the_loop(seconds: float) -> int:
        spin(seconds)
        return 1

    limited: Callable[..., Any]
    limited, free = {
        "thread": (about, innocent),
        "coroutine": (about_later, innocent_later),
        "loop": (about_on_the_loop, innocent_later),
    }[kind]
    monkeypatch.setattr(io_executor, "STUCK_S", 0.0)
    limit_s = 0.003 if kind == "loop" else 0.001
    n = 500 if kind == "loop" else 2_000
    uniform = random.Random(7).uniform
    innocents: set[str] = set()

    def was_struck() -> bool:
        return any(error_of(outcome)[1] for job_id, outcome in driver.outcomes.items() if job_id not in innocents)

    def script() -> None:
        for number in itertools.count(1):
            if number > n and was_struck():
                break
            strict = driver.claim(limited, uniform(0.5, 1.5) * limit_s, limit_s=limit_s, soft_s=uniform(0.5, 1) * limit_s)
            easy = driver.claim(free)
            innocents.add(easy.id)
            driver.submit(strict, easy)
            while driver.executor.begun():
                driver.executor.enforce(time.monotonic())
                driver.executor.interrupt(DrainTimeout(), strict.id) if uniform(0, 1) < 0.02 else None
                time.sleep(0)
            driver.turn()
        driver.wait(lambda: len(driver.outcomes) == 2 * len(innocents))

    driver.run(script, size=2)
    assert not driver.twice
    assert {driver.outcomes[job_id].what for job_id in innocents} == {"finished"}
    struck = [error_of(outcome) for job_id, outcome in driver.outcomes.items() if job_id not in innocents]
    assert {what for what, _ in struck} <= {"finished", "retry", "handed back"}
    assert {error for _, error in struck} <= {"", "TimeLimitExceeded", "SoftTimeLimitExceeded"}


@IN_DESTRUCTORS
def test_strikes_leave_threads_usable_however_they_fall(driver: Driver, restless: None) -> None:
    """One thread, thousands of jobs of no length, and another thread that strikes at them as fast as it can."""

    def nothing() -> None:
        pass

    def script() -> None:
        claims = [driver.claim(nothing) for _ in range(5_000)]
        driver.submit(*claims)
        while len(driver.outcomes) < len(claims):
            for run in list(driver.executor._slots.running.values()):
                if run.thread is not None:
                    run.thread.strike(run, TimeLimitExceeded(1.0))
            driver.executor.enforce(time.monotonic())
            for claim, outcome in driver.executor.ended():
                driver.outcomes[claim.id] = outcome
            time.sleep(0)
        assert {error_of(outcome) for outcome in driver.outcomes.values()} <= {("finished", ""), ("retry", "TimeLimitExceeded")}
        assert len(driver.outcomes) == len(claims)

    driver.run(script, size=1)


BLOCKED = """
import asyncio, time
from io_driver import Driver
import pytest
def spin():
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
async def blocks():
    spin()
driver = Driver(pytest.MonkeyPatch())
def script():
    driver.submit(driver.claim(blocks))
    driver.wait(lambda: bool(driver.executor.begun()))
    time.sleep(0.1)
    print("leaving", flush=True)
driver.run(script)
"""


def test_a_process_whose_loop_is_blocked_for_good_ends_all_the_same(processes: Processes) -> None:
    process = processes.start("python", "-c", BLOCKED)
    process.prints("leaving")
    assert process.ended(20.0) == 0
