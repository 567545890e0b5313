"""A circuit breaker around real calls: what counts, who gets through, and what its reports survive."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from processes import Processes

from jobs import connections, keys
from jobs.errors import (
    CircuitOpen,
    DrainTimeout,
    JobStopped,
    NotFound,
    Permanent,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
)
from jobs.queue import breaker
from jobs.queue.breaker import Breaker, BreakerState, Circuit, Outcome

NOW = 1_763_764_205.0
FRAGILE = Breaker("fragile", trips_on=lambda error: isinstance(error, OSError), min_calls=2, open_s=5.0, max_open_s=12.0)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def state(client: redis.Redis, now: float, name: str = "fragile") -> BreakerState:
    return next(found for found in breaker.states(client, now) if found.name == name)


def call(client: redis.Redis, clock: Clock, error: BaseException | None = None) -> None:
    """One guarded call that ends as told."""
    with FRAGILE.guard(client, clock=clock):
        if error is not None:
            raise error


def fail(client: redis.Redis, clock: Clock, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(OSError, match="down"):
            call(client, clock, OSError("down"))


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (None, (1, 0)),
        (OSError("down"), (1, 1)),
        (ConnectionResetError("down"), (1, 1)),
        (TimeLimitExceeded(1.0), (1, 1)),
        (SoftTimeLimitExceeded(1.0), (1, 1)),
        (Permanent("no such street"), (1, 0)),
        (ValueError("ours"), (0, 0)),
        (DrainTimeout(), (0, 0)),
        (JobStopped(), (0, 0)),
        (KeyboardInterrupt(), (0, 0)),
    ],
    ids=repr,
)
def test_only_what_the_downstream_did_is_counted(
    redis_client: redis.Redis, clock: Clock, error: BaseException | None, counted: tuple[int, int]
) -> None:
    if error is None:
        call(redis_client, clock)
    else:
        with pytest.raises(type(error)):
            call(redis_client, clock, error)
    found = state(redis_client, clock.now)
    assert (found.calls, found.failures) == (found.calls_total, found.failures_total) == counted
    assert not [name for name in redis_client.hkeys(keys.breaker("fragile")) if name.startswith(b"lease:")]


def test_a_block_that_had_nothing_to_call_is_not_counted(redis_client: redis.Redis, clock: Clock) -> None:
    with FRAGILE.guard(redis_client, clock=clock) as guarded:
        guarded.not_made()
    assert state(redis_client, clock.now).calls_total == 0


def test_it_opens_for_longer_and_longer_and_closes_with_an_empty_window(redis_client: redis.Redis, clock: Clock) -> None:
    fail(redis_client, clock, times=2)
    for number, open_s in enumerate((5.0, 10.0, 12.0, 12.0), 1):
        found = state(redis_client, clock.now)
        assert (found.state, found.opened, found.opened_at, found.retry_at) == (
            Circuit.OPEN,
            number,
            clock.now,
            clock.now + open_s,
        )
        clock.now += open_s - 0.001
        with pytest.raises(CircuitOpen) as refusal:
            call(redis_client, clock)
        assert (refusal.value.name, refusal.value.retry_at) == ("fragile", found.retry_at)
        clock.now += 0.001
        assert state(redis_client, clock.now).state is Circuit.HALF_OPEN
        fail(redis_client, clock)
    clock.now += 12.0
    call(redis_client, clock)
    found = state(redis_client, clock.now)
    assert (found.state, found.calls, found.failures, found.retry_at) == (Circuit.CLOSED, 0, 0, None)
    assert (found.opened, found.calls_total, found.failures_total, found.refused_total) == (5, 7, 6, 4)
    fail(redis_client, clock)
    assert state(redis_client, clock.now).state is Circuit.CLOSED, "one failure alone opens nothing"
    fail(redis_client, clock)
    assert state(redis_client, clock.now).retry_at == clock.now + 5.0, "the doubling begins anew"


def test_failures_that_left_the_window_do_not_open_it_and_leave_nothing_behind(redis_client: redis.Redis, clock: Clock) -> None:
    for _ in range(5):
        fail(redis_client, clock)
        clock.now += 31.0
    found = state(redis_client, clock.now)
    assert (found.state, found.calls, found.failures_total) == (Circuit.CLOSED, 0, 5)
    assert len([name for name in redis_client.hkeys(keys.breaker("fragile")) if name[:1] in b"cf" and name[1:].isdigit()]) == 2


def test_a_probe_whose_process_died_gives_its_place_up(redis_client: redis.Redis, clock: Clock) -> None:
    fail(redis_client, clock, times=2)
    clock.now += 5.0
    FRAGILE.ask(redis_client, "dies", clock.now)
    FRAGILE.ask(redis_client, "dies", clock.now)  # its reply was lost, it is sent again
    with pytest.raises(CircuitOpen) as refusal:
        call(redis_client, clock)
    assert refusal.value.retry_at == clock.now + 5.0, "long before the lease ends: a probe is expected to end early"
    clock.now += 29.0
    with pytest.raises(CircuitOpen) as refusal:
        call(redis_client, clock)
    assert refusal.value.retry_at == clock.now + 1.0
    clock.now += 1.0
    FRAGILE.ask(redis_client, "lives", clock.now)
    for late in (Outcome.FAILED, Outcome.SUCCEEDED):
        assert not FRAGILE.report(redis_client, "dies", late, clock.now)
    assert state(redis_client, clock.now).state is Circuit.HALF_OPEN
    assert FRAGILE.report(redis_client, "lives", Outcome.SUCCEEDED, clock.now)
    assert not FRAGILE.report(redis_client, "lives", Outcome.FAILED, clock.now)
    found = state(redis_client, clock.now)
    assert (found.state, found.calls) == (Circuit.CLOSED, 0)


def test_a_probe_that_is_interrupted_gives_its_place_back_at_once(redis_client: redis.Redis, clock: Clock) -> None:
    fail(redis_client, clock, times=2)
    clock.now += 5.0
    with pytest.raises(DrainTimeout):
        call(redis_client, clock, DrainTimeout())
    assert state(redis_client, clock.now).state is Circuit.HALF_OPEN
    call(redis_client, clock)
    assert state(redis_client, clock.now).state is Circuit.CLOSED


def test_reports_of_calls_from_before_it_opened_change_nothing(redis_client: redis.Redis, clock: Clock) -> None:
    for number in range(4):
        FRAGILE.ask(redis_client, f"slow{number}", clock.now)
    fail(redis_client, clock, times=2)
    opened = state(redis_client, clock.now)
    assert not FRAGILE.report(redis_client, "slow0", Outcome.FAILED, clock.now)
    assert not FRAGILE.report(redis_client, "slow1", Outcome.SUCCEEDED, clock.now)
    clock.now += 5.0
    FRAGILE.ask(redis_client, "probe", clock.now)
    assert not FRAGILE.report(redis_client, "slow2", Outcome.SUCCEEDED, clock.now)
    assert not FRAGILE.report(redis_client, "slow3", Outcome.FAILED, clock.now)
    found = state(redis_client, clock.now)
    assert (found.retry_at, found.opened, found.calls_total) == (opened.retry_at, 1, 2)


def test_calls_whose_processes_died_are_forgotten(redis_client: redis.Redis, clock: Clock) -> None:
    for number in range(20):
        FRAGILE.ask(redis_client, f"dead{number}", clock.now)
    clock.now += 3_600.0
    call(redis_client, clock)
    assert not [name for name in redis_client.hkeys(keys.breaker("fragile")) if name.startswith(b"lease:")]
    assert 0 < redis_client.ttl(keys.breaker("fragile")) <= 86_400


def test_a_result_is_not_lost_because_the_breaker_cannot_be_told(redis_client: redis.Redis, redis_url: str, clock: Clock) -> None:
    client = connections.connect(redis_url)

    def booked() -> str:
        with FRAGILE.guard(client, clock=clock):
            redis_client.config_set("maxclients", 1)
            client.connection_pool.disconnect()
            return "booked"

    try:
        assert booked() == "booked"
    finally:
        redis_client.config_set("maxclients", 10_000)
    client.connection_pool.disconnect()
    assert state(redis_client, clock.now).calls_total == 0


def test_a_full_memory_stops_no_call(redis_client: redis.Redis, clock: Clock) -> None:
    fail(redis_client, clock)
    redis_client.config_set("maxmemory", 1)
    try:
        fail(redis_client, clock)
        with pytest.raises(CircuitOpen):
            call(redis_client, clock)
        clock.now += 5.0
        call(redis_client, clock)
        breaker.reset(redis_client, "fragile", clock.now)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert state(redis_client, clock.now).opened == 1


def test_a_reset_closes_it_twice_as_well_as_once_and_only_if_it_is_known(redis_client: redis.Redis, clock: Clock) -> None:
    with pytest.raises(NotFound):
        breaker.reset(redis_client, "fragile", clock.now)
    assert not redis_client.keys("*")
    fail(redis_client, clock, times=2)
    for _ in range(2):
        breaker.reset(redis_client, "fragile", clock.now)
        found = state(redis_client, clock.now)
        assert (found.state, found.calls, found.opened, found.calls_total) == (Circuit.CLOSED, 0, 1, 2)
    call(redis_client, clock)


def test_a_breaker_whose_figures_have_expired_is_forgotten(redis_client: redis.Redis, clock: Clock) -> None:
    assert breaker.states(redis_client, clock.now) == []
    Breaker("another", trips_on=FRAGILE.trips_on).ask(redis_client, "c", clock.now)
    fail(redis_client, clock, times=2)
    redis_client.delete(keys.breaker("another"))
    assert [(found.name, found.state) for found in breaker.states(redis_client, clock.now)] == [("fragile", Circuit.OPEN)]
    assert redis_client.smembers(keys.BREAKERS) == {b"fragile"}


# --- races -----------------------------------------------------------------------------------

PROBING = Breaker("raced", trips_on=lambda error: isinstance(error, OSError), min_calls=1, open_s=0.05, max_open_s=0.05, probes=2)


@pytest.fixture
def raced(redis_client: redis.Redis) -> Iterator[Callable[[], None]]:
    """Opens the raced breaker; from a moment later on it is half-open."""

    def open_it() -> None:
        PROBING.ask(redis_client, "first", time.time() - 1)
        PROBING.report(redis_client, "first", Outcome.FAILED, time.time() - 1)

    yield open_it
    assert state(redis_client, time.time(), "raced").opened >= 1


def test_never_more_probes_than_allowed_are_under_way_at_once(
    redis_client: redis.Redis, redis_url: str, raced: Callable[[], None]
) -> None:
    raced()
    lock, under_way, most, let_through, met_open = threading.Lock(), 0, 0, 0, 0
    deadline = time.monotonic() + 2.0

    def knock() -> None:
        nonlocal under_way, most, let_through, met_open
        client = connections.connect(redis_url)
        while time.monotonic() < deadline:
            try:
                with PROBING.guard(client):
                    with lock:
                        under_way, let_through = under_way + 1, let_through + 1
                        most = max(most, under_way)
                    try:
                        time.sleep(0.002)
                    finally:
                        with lock:
                            under_way -= 1
                    raise OSError("still down")
            except OSError:
                continue
            except CircuitOpen:
                with lock:
                    met_open += 1
        client.connection_pool.disconnect()

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(knock) for _ in range(8)]:
            done.result(30)
    assert most == PROBING.probes
    assert let_through > 10 and met_open > let_through


PROBER = """
import os, sys, time
from jobs import connections
from jobs.errors import CircuitOpen
from jobs.queue.breaker import Breaker
raced = Breaker("raced", trips_on=lambda error: isinstance(error, OSError), min_calls=1, open_s=0.05, max_open_s=0.05, probes=2)
client = connections.connect(sys.argv[1])
print("ready", flush=True)
client.blpop("go", 20)
ends_at = time.time() + 2.0
while time.time() < ends_at:
    try:
        with raced.guard(client):
            client.rpush("seen", client.incr("under_way"))
            client.decr("under_way")
            raise OSError
    except (OSError, CircuitOpen):
        pass
"""


def test_eight_processes_that_race_for_the_probes_get_no_more_than_allowed(
    redis_client: redis.Redis, redis_url: str, processes: Processes, raced: Callable[[], None]
) -> None:
    raced()
    started = [processes.start("python", "-c", PROBER, redis_url) for _ in range(8)]
    for process in started:
        process.prints("ready")
    redis_client.rpush("go", *range(8))
    for process in started:
        assert process.ended(30) == 0, process.output
    seen = [int(number) for number in redis_client.lrange("seen", 0, -1)]
    assert set(seen) <= {1, 2} and len(seen) > 10
