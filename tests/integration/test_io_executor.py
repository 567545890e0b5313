"""The executor of IoWorkers: coroutines and blocking functions at once, each with its own context, limits and end."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
import structlog
from io_driver import Driver, error_of
from processes import wait_for

from jobs import connections
from jobs.errors import DrainTimeout, JobInterrupted, JobStopped
from jobs.queue import main_loop
from jobs.queue.ending import Claim
from jobs.queue.running import running_job
from jobs.settings import Settings

FOREVER_S = 3_600.0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(monkeypatch)


async def add_later(a: int, b: int) -> int:
    await asyncio.sleep(0.001)
    return a + b


def add(a: int, b: int) -> int:
    return a + b


async def rest() -> None:
    await asyncio.sleep(FOREVER_S)


def hold(gate: str) -> None:
    while gate in closed:
        time.sleep(0.001)


closed: set[str] = set()
"""Gates at which `hold` stays."""


@pytest.fixture
def gate() -> Iterator[str]:
    closed.add("gate")
    yield "gate"
    closed.clear()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_coroutines_and_blocking_functions_end_with_their_results(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loop == "asyncio":
        monkeypatch.setattr(main_loop, "new_event_loop", asyncio.new_event_loop)
    driver = Driver(monkeypatch)

    def script() -> None:
        claims = [driver.claim(function, number, 1) for number in range(50) for function in (add, add_later)]
        driver.submit(*claims)
        assert [driver.outcome(claim).result for claim in claims] == [b"%d" % (n + 1) for n in range(50) for _ in "ab"]

    driver.run(script)
    assert not driver.twice
    assert {outcome.what for outcome in driver.outcomes.values()} == {"finished"}


def test_no_more_than_size_run_at_once_and_those_that_wait_can_be_taken_back(driver: Driver, gate: str) -> None:
    def script() -> None:
        claims = [driver.claim(hold, gate) if number % 2 else driver.claim(rest) for number in range(10)]
        driver.submit(*claims)
        driver.wait(lambda: len(driver.executor.begun()) == 4)
        begun = driver.executor.begun()
        assert all(time.monotonic() - 5 < instant <= time.monotonic() for instant in begun.values())
        waiting = [claim for claim in claims if claim.member not in begun]
        assert driver.executor.take_back() == waiting
        assert driver.executor.take_back() == []

    driver.run(script, size=4)


def test_the_number_of_slots_grows_at_once_and_shrinks_as_jobs_end(driver: Driver, gate: str) -> None:
    before = set(threading.enumerate())  # of another test, some may still hang

    def its_threads() -> int:
        return sum(thread.name == "job" for thread in threading.enumerate() if thread not in before)

    def script() -> None:
        driver.submit(*(driver.claim(hold, gate) for _ in range(20)))
        driver.wait(lambda: len(driver.executor.begun()) == 2)
        driver.executor.resize(8)
        driver.wait(lambda: len(driver.executor.begun()) == 8)
        driver.executor.resize(1)
        closed.clear()
        driver.wait(lambda: len(driver.outcomes) == 20)
        driver.wait(lambda: its_threads() <= 1)

    driver.run(script, size=2)
    wait_for(lambda: not its_threads(), 5, "the threads end")


def test_a_waiting_job_of_the_other_kind_gets_the_slot_that_becomes_free(driver: Driver, gate: str) -> None:
    def script() -> None:
        claims = [driver.claim(hold, gate), driver.claim(add_later, 1, 1), driver.claim(add, 1, 2), driver.claim(add_later, 1, 3)]
        driver.submit(*claims)
        driver.wait(lambda: len(driver.executor.begun()) == 1)
        closed.clear()
        driver.wait(lambda: len(driver.outcomes) == 4)
        assert list(driver.outcomes) == [claim.id for claim in claims]

    driver.run(script, size=1)


def test_each_job_has_its_own_context(driver: Driver) -> None:
    def seen() -> list[Any]:
        bound = structlog.contextvars.get_contextvars()
        structlog.contextvars.bind_contextvars(mine=running_job().id)
        return [running_job().id, running_job().attempt, bound]

    async def seen_later() -> list[Any]:
        first = seen()
        await asyncio.sleep(0.001)
        assert (await asyncio.to_thread(running_job)).id == running_job().id == first[0]
        return first

    def script() -> None:
        for function in (seen, seen_later) * 20:
            claim = driver.claim(function)
            bound = {"job_id": claim.id, "queue": "default", "attempt": 1, "task": "io.sample"}
            assert json.loads(driver.do(claim).result) == [claim.id, 1, bound]

    driver.run(script, size=2)


def test_an_awaitable_that_a_blocking_function_returns_runs_on_the_loop_in_the_context_of_its_job(driver: Driver) -> None:
    async def later(thread: str) -> list[str]:
        await asyncio.sleep(0)
        return [thread, threading.current_thread().name, running_job().id]

    def first() -> Any:
        return later(threading.current_thread().name)

    def script() -> None:
        claim = driver.claim(first)
        assert driver.do(claim).result == f'["job","MainThread","{claim.id}"]'.encode()
        assert error_of(driver.do(driver.claim(lambda: rest(), limit_s=0.05))) == ("retry", "TimeLimitExceeded")

    driver.run(script)


def test_all_jobs_share_one_loop_and_its_client_which_is_closed_in_the_end(driver: Driver, settings: Settings) -> None:
    seen: list[Any] = []

    async def look() -> None:
        seen.append((asyncio.get_running_loop(), connections.loop_client()))
        await connections.loop_client().ping()

    def script() -> None:
        for _ in range(3):
            assert driver.do(driver.claim(look)).what == "finished"

    driver.run(script)
    assert len(set(seen)) == 1
    loop, client = seen[0]
    assert loop.is_closed()
    assert loop not in connections._loops
    assert all(not connection.is_connected for connection in client.connection_pool._available_connections)


class Odd(BaseException):
    """No Exception."""


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (ValueError("no"), "retry"),
        (SystemExit(1), "dead"),
        (KeyboardInterrupt(), "dead"),
        (GeneratorExit(), "dead"),
        (Odd(), "dead"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_job_raises_ends_that_job_alone(driver: Driver, error: BaseException, what: str) -> None:
    def fails() -> None:
        raise error

    async def fails_at_once() -> None:
        raise error

    async def fails_later() -> None:
        await asyncio.sleep(0.001)
        raise error

    def script() -> None:
        for function in (fails, fails_at_once, fails_later):
            assert error_of(driver.do(driver.claim(function))) == (what, type(error).__name__)
        assert driver.do(driver.claim(add_later, 1, 1)).what == "finished"

    driver.run(script)


def test_a_task_that_a_job_starts_and_that_exits_ends_no_other_job(driver: Driver) -> None:
    async def leaves() -> None:
        started = asyncio.create_task(exits())
        await asyncio.wait([started])

    async def exits() -> None:
        raise SystemExit(3)

    async def stops_the_loop() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)

    def script() -> None:
        other = driver.claim(asyncio.sleep, 0.2)
        driver.submit(other)
        assert driver.do(driver.claim(leaves)).what == "finished"
        assert driver.do(driver.claim(stops_the_loop)).what == "finished"
        assert driver.outcome(other).what == "finished"

    driver.run(script)


def test_a_job_that_cannot_be_run_has_ended(driver: Driver) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    def script() -> None:
        good = driver.claim(add, 1, 1)
        nonsense = Claim("nonsense", "e", "default", "w1", {b"data": b"{"}, time.time())
        unknown = Claim("unknown", "e", "default", "w1", {b"data": b'["no.such",null,[],{}]'}, time.time())
        late = Claim("late", "e", "default", "w1", {**good.hash, b"expires_at": b"1"}, time.time())
        greedy = Claim("greedy", "e", "default", "w1", {**driver.claim(rest).hash}, time.time())
        data = greedy.hash[b"data"].replace(b"[],", b"[1],")
        greedy = Claim("greedy", "e", "default", "w1", {**greedy.hash, b"data": data}, time.time())
        driver.submit(nonsense, unknown, late, greedy, good)
        assert error_of(driver.outcome(nonsense)) == ("dead", "Permanent")
        assert error_of(driver.outcome(unknown)) == ("dead", "UnknownTask")
        assert driver.outcome(late).what == "expired"
        assert error_of(driver.outcome(greedy)) == ("retry", "TypeError")
        assert driver.outcome(good).what == "finished"
        assert error_of(driver.do(driver.claim(numbers))) == ("dead", "Permanent")
        assert error_of(driver.do(driver.claim(lambda: (n for n in "ab")))) == ("dead", "Permanent")

    driver.run(script)


def test_an_error_that_says_redis_is_away_is_settled_off_the_loop(driver: Driver, settings: Settings) -> None:
    async def fails() -> None:
        raise redis.exceptions.ConnectionError("of somebody else's Redis")

    def script() -> None:
        assert error_of(driver.do(driver.claim(fails))) == ("retry", "ConnectionError")

    driver.run(script)


def test_jobs_are_interrupted_one_by_one_or_all(driver: Driver, gate: str) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(FOREVER_S)
        except Exception:  # noqa: BLE001  what many tasks do
            return "swallowed"
        except JobInterrupted as reason:
            return type(reason).__name__
        return ""

    def script() -> None:
        claims = [driver.claim(function, *args) for function, args in ((hold, [gate]), (rest, []), (hold, [gate]), (rest, []))]
        caught = driver.claim(stubborn)
        driver.submit(*claims, caught)
        driver.wait(lambda: len(driver.executor.begun()) == 5)
        for claim in claims[:2]:
            driver.executor.interrupt(JobStopped(), claim.id)
            assert error_of(driver.outcome(claim)) == ("dead", "JobStopped")
        assert len(driver.outcomes) == 2
        driver.executor.interrupt(DrainTimeout())
        assert [driver.outcome(claim).what for claim in claims[2:]] == ["handed back"] * 2
        assert driver.outcome(caught).result == b'"DrainTimeout"'

    driver.run(script)


def test_what_was_abandoned_never_ends(driver: Driver, gate: str) -> None:
    async def holds_on() -> None:
        while gate in closed:
            with contextlib.suppress(JobInterrupted):
                await asyncio.sleep(0.001)

    def never_minds() -> None:
        while gate in closed:
            with contextlib.suppress(JobInterrupted):
                time.sleep(0.001)

    def script() -> None:
        claims = [driver.claim(holds_on), driver.claim(never_minds)]
        driver.submit(*claims)
        driver.wait(lambda: len(driver.executor.begun()) == 2)
        driver.executor.interrupt(DrainTimeout())
        assert {claim.id for claim in driver.executor.abandon()} == {claim.id for claim in claims}
        assert driver.executor.begun() == {}
        closed.clear()
        assert driver.do(driver.claim(add, 1, 1)).what == "finished"
        assert driver.do(driver.claim(add_later, 1, 1)).what == "finished"
        driver.wait(lambda: not driver.executor._threads.hanging)
        assert len(driver.outcomes) == 2

    driver.run(script)


def test_the_engine_s_result_and_its_error_are_those_of_serve(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert driver.executor.serve(lambda: 7) == 7

    def fails() -> int:
        raise LookupError("the engine")

    with pytest.raises(LookupError, match="the engine"):
        Driver(monkeypatch).executor.serve(fails)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_signals_are_handled_at_once_while_the_loop_idles(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loop == "asyncio":
        monkeypatch.setattr(main_loop, "new_event_loop", asyncio.new_event_loop)
    driver = Driver(monkeypatch)
    took: list[float] = []
    sent: list[float] = []
    before = signal.signal(signal.SIGUSR2, lambda *_: took.append(time.monotonic() - sent[-1]))

    def script() -> None:
        for number in range(10):
            driver.turn()  # the loop has nothing to do meanwhile
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGUSR2)
            driver.wait(lambda number=number: len(took) > number)  # type: ignore[misc]

    try:
        driver.run(script)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert sorted(took)[5] < 0.1


def test_memory_is_that_of_this_process(driver: Driver) -> None:
    assert 10_000_000 < driver.executor.memory_bytes() < 10_000_000_000
    driver.run(lambda: None)
