"""The leader's epoch: what a scheduler of old sends is refused, whatever it is, and no two leaders ever have the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from servers import Server as RedisServer

from jobs import connections, keys
from jobs.queue.script import QUEUE_DIR, Script, act_for, exchange, is_stale, load, script
from scheduler.duty import Counts
from scheduler.leader import LEASE_S, Leader
from scheduler.loop import Loop
from scheduler.server import Server

Client = Callable[[], redis.Redis]
FULL = "1mb"


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def client(redis_server: RedisServer, redis_client: redis.Redis) -> Client:
    """Clients of their own, as processes have."""
    return lambda: connections.connect(redis_server.url)


@pytest.fixture
def note(tmp_path: Path) -> Script:
    """A script that leaves something behind, and says what it was given."""
    path = tmp_path / "note.lua"
    path.write_text("redis.call('RPUSH', KEYS[1], ARGV[1])\nreturn {#ARGV, ARGV[1]}")
    return Script(path)


def number(client: redis.Redis) -> int:
    return int(client.hget(keys.SCHEDULER, "epoch") or 0)


def forget_lease(client: redis.Redis) -> None:
    """As it runs out by itself."""
    client.delete(keys.SCHEDULER_LOCK)


def test_whatever_a_leader_of_old_sends_is_refused(client: Client, note: Script) -> None:
    old, new = client(), client()
    assert Leader(old).campaign()
    assert note(old, ["noted"], ["a"]) == [1, b"a"], "the epoch is not the script's to see"
    forget_lease(new)
    assert Leader(new).campaign()

    def in_a_pipeline(*, multi: bool) -> None:
        load(old, note)
        with old.pipeline(transaction=multi) as pipeline:
            (note.in_multi if multi else note.in_pipeline)(pipeline, ["noted"], ["b"])
            pipeline.execute()

    ways: list[Callable[[], object]] = [
        lambda: note(old, ["noted"], ["b"]),
        lambda: in_a_pipeline(multi=True),
        lambda: in_a_pipeline(multi=False),
    ]
    for way in ways:
        with pytest.raises(redis.exceptions.ResponseError) as refused:
            way()
        assert is_stale(refused.value)
    assert all(is_stale(answer) for answer in exchange(old, [(note, ["noted"], ["b"])] * 2))
    assert new.lrange("noted", 0, -1) == [b"a"]
    assert note(new, ["noted"], ["c"]) == [1, b"c"]
    assert not is_stale(redis.exceptions.ResponseError("ERR of another kind"))


def test_a_client_that_acts_for_no_epoch_is_not_asked(client: Client, note: Script) -> None:
    assert Leader(client()).campaign()
    assert note(client(), ["noted"], ["a"]) == [1, b"a"]


def test_a_guarded_script_that_redis_forgot_is_sent_again(client: Client, note: Script) -> None:
    mine = client()
    assert Leader(mine).campaign()
    mine.script_flush()
    assert note(mine, ["noted"], ["a"]) == [1, b"a"]
    assert exchange(mine, [(note, ["noted"], ["b"])]) == [[1, b"b"]]
    mine.script_flush()
    assert exchange(mine, [(note, ["noted"], ["c"])]) == [[1, b"c"]]


def test_the_epoch_changes_with_the_leader_and_not_with_its_heartbeats(client: Client) -> None:
    one, two = client(), client()
    first, second = Leader(one, "first"), Leader(two, "second")
    assert [first.campaign() for _ in range(3)] == [True] * 3
    assert (number(one), one.hget(keys.SCHEDULER, "name")) == (1, b"first")
    assert not second.campaign()
    assert 0 < second.free_in_s <= LEASE_S
    first.resign()
    assert second.campaign()
    assert (number(one), one.hget(keys.SCHEDULER, "name")) == (2, b"second")


def test_a_leader_whose_own_lease_ran_out_gets_another_epoch(client: Client) -> None:
    mine = client()
    leader = Leader(mine)
    assert leader.campaign()
    forget_lease(mine)
    assert leader.campaign()
    assert number(mine) == 2


def test_a_redis_that_came_back_without_its_last_writes_gives_no_epoch_twice(client: Client, note: Script) -> None:
    """The lease and the epoch of the leader before are restored; that one is frozen."""
    one, two, three = client(), client(), client()
    first, second, third = (Leader(each) for each in (one, two, three))
    assert first.campaign()
    before = one.dump(keys.SCHEDULER_EPOCH)
    assert before is not None
    first.resign()
    assert second.campaign()
    one.restore(keys.SCHEDULER_EPOCH, 0, before, replace=True)
    with pytest.raises(redis.exceptions.ResponseError, match="STALE"):
        note(two, ["noted"], ["x"])
    forget_lease(one)
    assert third.campaign()
    assert number(one) == 2, "the number comes again"
    with pytest.raises(redis.exceptions.ResponseError, match="STALE"):
        note(two, ["noted"], ["x"])
    forget_lease(one)
    assert second.campaign()
    assert number(one) == 3
    assert note(two, ["noted"], ["x"])


def test_a_leader_goes_on_when_its_epoch_is_gone(client: Client, note: Script) -> None:
    mine = client()
    leader = Leader(mine)
    assert leader.campaign()
    mine.delete(keys.SCHEDULER_EPOCH)
    assert leader.campaign()
    assert number(mine) == 2
    assert note(mine, ["noted"], ["x"])


def test_a_full_redis_still_has_a_leader_with_a_fresh_heartbeat(client: Client) -> None:
    one, two = client(), client()
    first, second = Leader(one), Leader(two)
    assert first.campaign({"promoted": 2})
    one.set("ballast", "x" * 1_000_000)
    one.config_set("maxmemory", FULL)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            one.set("more", "x")
        before = float(one.hget(keys.SCHEDULER, "heartbeat_at") or 0)
        assert first.campaign({"promoted": 3})
        assert float(one.hget(keys.SCHEDULER, "heartbeat_at") or 0) > before
        first.resign()
        assert second.campaign()
    finally:
        one.config_set("maxmemory", "0")
    assert (number(one), one.hget(keys.SCHEDULER, "promoted")) == (2, b"5")


class Overtaken:
    """A duty in the middle of which another scheduler takes over; then it writes."""

    interval_s = 0.0

    def __init__(self, mine: redis.Redis, other: Leader) -> None:
        self.mine, self.other, self.ticks = mine, other, 0

    def tick(self, now: float) -> Counts:
        self.ticks += 1
        if self.ticks == 2:
            forget_lease(self.mine)
            assert self.other.campaign()
        script(QUEUE_DIR / "forget.lua")(self.mine, [keys.QUEUES], ["gone"])
        return {"ticks": 1}


def test_a_loop_whose_leader_is_of_old_stands_down_and_leads_again_when_it_may(client: Client) -> None:
    mine, clock = client(), Clock()
    other = Leader(client())
    duty = Overtaken(mine, other)
    loop = Loop(mine, Server(mine, LEASE_S), "us", [duty], monotonic=clock)
    for _ in range(4):
        loop.step()
        clock.now += 0.01
    assert duty.ticks == 2, "neither the duty nor the loop goes on under an epoch that is over"
    other.resign()
    clock.now += 2
    loop.step()
    assert duty.ticks == 3
    assert mine.hmget(keys.SCHEDULER, "epoch", "name") == [b"3", b"us"]


def test_acting_for_an_epoch_ends_when_it_is_told_to(client: Client, note: Script) -> None:
    mine = client()
    act_for(mine, "9:nobody")
    with pytest.raises(redis.exceptions.ResponseError, match="STALE"):
        note(mine, ["noted"], ["x"])
    act_for(mine, None)
    assert note(mine, ["noted"], ["x"])
