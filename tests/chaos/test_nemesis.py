"""Every fault of the nemesis does what its name says, to a real server and real processes, and is over when it is undone."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import faults_redis
import faults_signals
import pytest
import redis
from carriers import Carrier
from faults import NOBODY, Deed, Fault
from fleet import Fleet
from nemesis import KINDS, Nemesis, draws
from processes import Process, Processes, wait_for
from proxy import Mode, Proxy
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Gone
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as Late
from redis.retry import Retry
from servers import Server

from jobs import keys

LIMIT_S = 30.0
LATE_S = 1.0
FAMILY = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.fork() and print("ready", flush=True)
while True:
    signal.pause()
"""
FAMILIES = {name: ["python", "-c", FAMILY] for name in ("scheduler-1", "scheduler-2")}
"""Parents with a child each, which start sooner than schedulers do."""
WATCH = """
import datetime, pathlib, sys, time
file = pathlib.Path(sys.argv[1])
while True:
    file.touch()
    real = file.stat().st_mtime
    now = datetime.datetime.now(datetime.UTC).timestamp()
    print(f"ahead {time.time() - real:.0f} {time.time_ns() / 1e9 - real:.0f} {now - real:.0f};", flush=True)
    time.sleep(0.02)
"""


@pytest.fixture
def fleet(own_server: Server, processes: Processes, carrier: Carrier) -> Fleet:
    """A fleet of which nothing but the proxy runs yet."""
    return Fleet(own_server, processes, carrier, proxied=True)


@pytest.fixture
def proxy(fleet: Fleet) -> Proxy:
    """Its proxy, which listens."""
    assert fleet.proxy is not None
    fleet.proxy.ready()
    return fleet.proxy


@pytest.fixture
def direct(fleet: Fleet) -> Iterator[redis.Redis]:
    """A client past the proxy that says everything once."""
    with client_of(fleet.direct_url) as client:
        yield client


def client_of(url: str, timeout_s: float = LIMIT_S) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0))


class Counting:
    """Increments a number through a client, until what it meets is what a test waits for."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.answered = 0
        self.unknown = 0

    def until(self, error: type[RedisError]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            try:
                assert self._client.incr("n") > self.answered
                self.answered += 1
            except error:
                self.unknown += 1
                return
            except RedisError:
                self.unknown += 1
        raise AssertionError(f"no {error.__name__} within {LIMIT_S:g} s")

    def done(self, client: redis.Redis) -> int:
        """How many of the unknown ones were done; more or less than those would be a server that does not keep what it says."""
        done = int(client.get("n") or 0) - self.answered
        assert 0 <= done <= self.unknown
        return done


@pytest.mark.parametrize(("mode", "times_done"), [(Mode.SWALLOW, {1}), (Mode.CUT, {0, 1})])
def test_a_request_whose_reply_is_swallowed_is_done_and_one_of_a_cut_connection_may_be(
    fleet: Fleet, proxy: Proxy, direct: redis.Redis, mode: Mode, times_done: set[int]
) -> None:
    found = set()
    with client_of(fleet.redis_url) as client:
        for number in range(20):
            client.ping()
            proxy.tell(mode)
            with pytest.raises(Gone):
                client.incr(f"n{number}")
            assert proxy.tell() == 1
            # A reply that is cut shows that the request was done; a cut request is dropped by a server that has seen its end.
            found.add(int(direct.get(f"n{number}") or 0))
    assert found == times_done


def test_a_delayed_connection_is_late_and_one_that_hangs_hears_nothing_until_it_is_let_go(
    fleet: Fleet, proxy: Proxy, direct: redis.Redis
) -> None:
    with client_of(fleet.redis_url) as client:
        client.ping()
        proxy.tell(Mode.DELAY, delay_s=0.1)
        began = time.monotonic()
        client.ping()
        assert time.monotonic() - began >= 0.2
        proxy.tell(Mode.HANG)
        with client_of(fleet.redis_url, LATE_S) as impatient, pytest.raises(Late):
            impatient.incr("n")
        assert direct.get("n") is None
        proxy.tell()
        assert client.incr("n") == 1


def test_only_a_share_of_the_connections_is_struck(fleet: Fleet, proxy: Proxy) -> None:
    proxy.tell(Mode.SWALLOW, share=0.5)
    lost = 0
    for _ in range(40):
        with client_of(fleet.redis_url) as client, suppress(Gone):
            client.ping()
            continue
        lost += 1
    assert 0 < lost < 40
    assert proxy.tell() >= lost


REDIS_FAULTS: list[tuple[Deed, type[RedisError], str]] = [
    (faults_redis.killed, Gone, "always"),
    (faults_redis.stopped, Late, "always"),
    (faults_redis.paused, Late, "always"),
    (faults_redis.full, OutOfMemoryError, "always"),
    (faults_redis.read_only, ReadOnlyError, "always"),
    (faults_redis.cut_off, Gone, "always"),
    (faults_redis.disk_full, Gone, "always"),
    (faults_redis.disk_full, ResponseError, "everysec"),
]


@pytest.mark.parametrize(
    ("deed", "error", "fsync"), REDIS_FAULTS, ids=[f"{deed.__name__}-{fsync}" for deed, _, fsync in REDIS_FAULTS]
)
def test_a_fault_of_redis_is_felt_by_its_clients_and_what_was_answered_is_there_after_it(
    processes: Processes, carrier: Carrier, deed: Deed, error: type[RedisError], fsync: str
) -> None:
    server = Server(fsync=fsync)
    server.start()

    async def fault(counting: Counting) -> None:
        # With this seed the pause is of 2.6 s: longer than the client waits.
        async with deed(Fleet(server, processes, carrier, proxied=False), "redis", random.Random(9)):
            await asyncio.to_thread(counting.until, error)

    try:
        with client_of(server.url, LATE_S if error is Late else LIMIT_S) as client:
            counting = Counting(client)
            client.set("text", "x" * 500)
            asyncio.run(fault(counting))
            counting.done(client)
            assert client.get("text") == b"x" * 500
            assert client.incr("n") == int(client.get("n") or 0)
    finally:
        server.remove()


def taken(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_scripts_are_forgotten_and_a_slow_redis_answers_late(fleet: Fleet, direct: redis.Redis) -> None:
    async def run() -> None:
        sha = direct.script_load("return 1")
        async with faults_redis.forgetful(fleet, "redis", random.Random(1)):
            await asyncio.to_thread(wait_for, lambda: direct.script_exists(sha) == [False], LIMIT_S, "the script is gone")
        async with faults_redis.slow(fleet, "redis", random.Random(1)):
            await asyncio.to_thread(wait_for, lambda: taken(direct.ping) > 0.02, LIMIT_S, "an answer is late")
        assert direct.ping()

    asyncio.run(run())


def states(pids: list[int]) -> set[str]:
    return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids}


def still(pids: list[int]) -> bool:
    return states(pids) == {"T"}


def has_children(process: Process, n: int) -> bool:
    return len(process.children()) == n


def awake(pids: list[int]) -> bool:
    return "T" not in states(pids)


def test_a_process_is_stopped_killed_with_or_without_its_children_told_to_end_and_started_again(fleet: Fleet) -> None:
    fleet.commands = FAMILIES
    fleet.start("scheduler-1")

    def pids() -> list[int]:
        process = fleet.process("scheduler-1")
        wait_for(lambda: "ready" in process.output and process.children(), LIMIT_S, "it has a child")
        return [process.pid, *process.children()]

    async def run() -> None:
        family = pids()
        for seed, expected in ((1, "alone"), (2, "with its children")):
            async with faults_signals.stopped(fleet, "scheduler-1", random.Random(seed)) as detail:
                assert detail == expected
                wait_for(partial(still, family[:1] if detail == "alone" else family), LIMIT_S, "they stand still")
            wait_for(partial(awake, family), LIMIT_S, "they run again")
        for deed, children_left in ((faults_signals.killed, 1), (faults_signals.killed_all, 0), (faults_signals.told_to_end, 1)):
            parent = pids()[0]
            old = fleet.process("scheduler-1")
            async with deed(fleet, "scheduler-1", random.Random(1)):
                old.ended(LIMIT_S)
                wait_for(partial(has_children, old, children_left), LIMIT_S, "its children are killed with it, or live on")
            assert pids()[0] != parent
        _parent, child = pids()
        for expected in ("1 of 1", NOBODY):
            async with faults_signals.killed_child(fleet, "scheduler-1", random.Random(1)) as detail:
                wait_for(lambda: child not in fleet.process("scheduler-1").children(), LIMIT_S, "the child is dead")
                assert detail == expected and fleet.process("scheduler-1").runs

    asyncio.run(run())


def test_the_wall_clock_of_a_process_jumps_while_it_runs_and_back_again(fleet: Fleet, tmp_path: Path) -> None:
    fleet.commands["watch-1"] = ["python", "-c", WATCH, str(tmp_path / "touched")]
    fleet.start("watch-1")
    fleet.process("watch-1").prints("ahead 0 0 0;")
    fleet.set_clock("watch-1", -90.0)
    fleet.process("watch-1").prints("ahead -90 -90 -90;")
    fleet.set_clock("watch-1", 0.0)
    wait_for(lambda: fleet.process("watch-1").output.endswith("ahead 0 0 0;\n"), LIMIT_S, "the clock is right again")


def test_a_seed_says_which_faults_there_are_and_every_kind_is_drawn(fleet: Fleet) -> None:
    first, again, other = (list(itertools.islice(draws(fleet, seed), 1_000)) for seed in (1, 1, 2))
    assert first == again != other
    assert {draw.kind for draw in first} == set(KINDS)
    assert {draw.target for draw in first} == {*fleet.names, "redis", "proxy", "carrier"}


def test_the_nemesis_undoes_what_it_did_starts_what_ended_by_itself_and_knows_who_leads(
    fleet: Fleet, proxy: Proxy, direct: redis.Redis
) -> None:
    fleet.commands = {**FAMILIES, "stock-rest": ["python", "-c", "import time; time.sleep(0.5)"]}
    fleet.start()
    direct.hset(keys.SCHEDULER, "pid", fleet.process("scheduler-1").pid)
    faults: list[Fault] = []

    async def run() -> None:
        ended = asyncio.Event()

        def note(fault: Fault) -> None:
            faults.append(fault)
            seen = {fault.role for fault in faults} | {fault.name for fault in faults}
            if {"leader", "follower", "proxy", "ended"} <= seen:
                ended.set()

        short = [kind for kind in KINDS if kind.name in ("kill", "kill-all", "proxy-hang")]
        await Nemesis(fleet, 28, kinds=short).run(ended, note)

    asyncio.run(run())
    assert all(fault.began_at <= fault.healed_at <= time.time() for fault in faults)
    assert {fault.role for fault in faults if fault.name == "ended"} == {"stock"}
    assert {fault.target for fault in faults if fault.role == "leader"} == {"scheduler-1"}
    assert all(fleet.process(name).runs for name in FAMILIES)
    with client_of(fleet.redis_url) as client:
        assert client.ping()
