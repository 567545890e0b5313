"""Redrives of many: worked off in order and at their pace, whoever is killed; what dies again or does not fit is left."""

import math
import random
import signal
import time

import pytest
import redis
import sample_tasks
from hands import Hands
from letters import bury_many, bury_now, check_index
from mall_floor import Floor
from processes import Processes, wait_for
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import Conflict, InvalidField, NotFound, Permanent
from jobs.queue import dead_letters, redrives
from jobs.queue.calling import enqueue
from jobs.queue.job import Call
from jobs.queue.leaving import REDRIVE
from jobs.queue.task import task
from scheduler.redrives import PER_TICK, Redrives

LIMIT_S = 60.0
NOW = 1_763_764_205.0


@task(name="test.keyed", unique=True)
def keyed(order: str, note: str = "") -> None:
    """A job of which there is one at a time."""


def ready(client: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue("default"), 0, -1)]


def ids_of(number: int) -> list[str]:
    return [f"j{place:05}" for place in range(number)]


def kill(hands: Hands, job_id: str, *args: str) -> None:
    """Makes a job and a dead letter of it."""
    enqueue(hands.client, sample_tasks.fail.spec(*(args or ("x",)), job_id=job_id), now=NOW)
    hands.fail(hands.must_claim("default"), Permanent("no"))


def test_ten_thousand_letters_are_redriven_once_each_though_the_scheduler_is_killed_in_the_middle(
    redis_client: redis.Redis, processes: Processes
) -> None:
    ids = ids_of(10_000)
    bury_many(redis_client, ids, NOW, n_groups=3)
    schedulers = [processes.start("python", "-m", "scheduler") for _ in range(2)]
    leads = wait_for(lambda: redis_client.hget(keys.SCHEDULER, "pid"), LIMIT_S, "one leads")
    [leading] = [process for process in schedulers if str(process.pid).encode() == leads]
    asked = redrives.request(redis_client, "redrive", by="test")
    wait_for(lambda: redis_client.llen(keys.queue("default")) > 2_000, LIMIT_S, "it works them off")
    leading.send(signal.SIGKILL)
    leading.ended(LIMIT_S)
    halfway = redrives.get(redis_client, asked.id)
    assert halfway.state == "open" and halfway.done == redis_client.llen(keys.queue("default")) < len(ids)
    wait_for(lambda: redrives.get(redis_client, asked.id).state == "done", LIMIT_S, "the other one goes on")
    assert ready(redis_client) == ids, "each once, the oldest first"
    record = redrives.get(redis_client, asked.id)
    assert (record.total, record.done, record.refused) == (10_000, 10_000, 0)
    index = (keys.DEAD, keys.DEAD_GROUPS, keys.DEAD_SIZES, keys.failed("default"))
    assert not redis_client.exists(*index, keys.redrive_letters(asked.id))
    assert {redis_client.hget(keys.job(job_id), "redrives") for job_id in ids[::97]} == {b"1"}


def test_a_rate_is_kept_and_a_pause_of_the_scheduler_is_made_up_for_by_one_second_at_most(redis_client: redis.Redis) -> None:
    bury_many(redis_client, ids_of(60), NOW)
    asked = redrives.request(redis_client, "redrive", by="test", rate_per_s=10)
    start, moved = asked.requested_at, []
    for after in (-5.0, 0.0, 0.0, 0.05, 0.11, 0.32, 60.0, 60.0, 60.05, 60.11, 3_600.0):
        before = len(ready(redis_client))
        Redrives(redis_client).tick(start + after)
        moved.append(len(ready(redis_client)) - before)
    assert moved == [0, 1, 0, 0, 1, 2, 10, 0, 0, 1, 10]


def test_a_slow_redrive_is_done_as_soon_as_no_letter_is_left(redis_client: redis.Redis) -> None:
    bury_many(redis_client, ids_of(1), NOW)
    asked = redrives.request(redis_client, "redrive", by="test", rate_per_s=redrives.SLOWEST)
    for after in (0.0, 0.1):
        Redrives(redis_client).tick(asked.requested_at + after)
    assert redrives.get(redis_client, asked.id).state == "done"


@pytest.mark.parametrize("rate", [0.3, 1.0, 7.0, 250.0])
def test_whenever_the_scheduler_looks_no_more_go_than_the_rate_and_a_second_allow(redis_client: redis.Redis, rate: float) -> None:
    bury_many(redis_client, ids_of(900), NOW)
    asked = redrives.request(redis_client, "redrive", by="test", rate_per_s=rate)
    chance, at, moves = random.Random(rate), asked.requested_at, []
    for _ in range(60):
        at += chance.choice([0.0, 0.01, 0.1, 0.3, 2.5])
        moves.append((at, Redrives(redis_client).tick(at).get("redriven", 0)))
    for first in range(len(moves)):
        for last in range(first, len(moves), 7):
            within = sum(number for _at, number in moves[first : last + 1])
            assert within <= math.ceil(rate * (moves[last][0] - moves[first][0]) + max(1.0, rate)) + 1e-6
    assert len(ready(redis_client)) == sum(number for _at, number in moves) > 0


def test_two_schedulers_at_once_keep_one_pace(redis_client: redis.Redis) -> None:
    bury_many(redis_client, ids_of(20), NOW)
    asked = redrives.request(redis_client, "redrive", by="test", rate_per_s=5)
    stale = redrives.get(redis_client, asked.id)
    Redrives(redis_client).tick(asked.requested_at)
    Redrives(redis_client)._move(stale, [("j00001", NOW + 0.001), ("j00002", NOW + 0.002)], asked.requested_at)
    assert ready(redis_client) == ["j00000"]


def test_a_tick_is_bounded_and_every_open_record_gets_its_share(redis_client: redis.Redis) -> None:
    bury_many(redis_client, ids_of(PER_TICK + 700), NOW, n_groups=2)
    asked = [
        redrives.request(redis_client, "redrive", by="test", group=group.group) for group in dead_letters.groups(redis_client)
    ]
    assert Redrives(redis_client).tick(time.time()) == {"redriven": PER_TICK}
    assert [redrives.get(redis_client, one.id).done for one in asked] == [PER_TICK // 2] * 2


def test_what_dies_again_or_is_new_is_not_redriven_by_an_older_request(redis_client: redis.Redis, hands: Hands) -> None:
    for job_id in ("a", "b", "c"):
        kill(hands, job_id)
    asked = redrives.request(redis_client, "redrive", by="test", rate_per_s=1)
    Redrives(redis_client).tick(asked.requested_at)
    dead_letters.redrive(redis_client, "b")
    for error in ("no", "again"):
        hands.fail(hands.must_claim("default"), Permanent(error))
    kill(hands, "d")
    for after in range(1, 8):
        Redrives(redis_client).tick(asked.requested_at + after)
    record = redrives.get(redis_client, asked.id)
    assert (record.state, record.total, record.done, record.refused) == ("done", 3, 2, 0)
    assert ready(redis_client) == ["c"]
    assert {letter.id for letter in dead_letters.page(redis_client, group=None, cursor=None, limit=9)[0]} == {"a", "b", "d"}
    check_index(redis_client)


def test_keyword_arguments_are_replaced_and_what_cannot_take_them_is_refused_once(
    redis_client: redis.Redis, hands: Hands
) -> None:
    kill(hands, "fits")
    redis_client.hset(keys.job("fits"), "data", Call(sample_tasks.fail.path, (), {"reason": "old"}).encode())
    kill(hands, "does-not")
    enqueue(redis_client, sample_tasks.own.spec(job_id="owned"), now=NOW)
    hands.fail(hands.must_claim("default"), Permanent("no"))
    asked = redrives.request(redis_client, "redrive", by="test", kwargs={"reason": "new"})
    counts = [Redrives(redis_client).tick(time.time()) for _ in range(3)]
    assert counts == [{"redriven": 1, "refused": 2}, {}, {}]
    record = redrives.get(redis_client, asked.id)
    assert (record.state, record.done, record.refused, record.kwargs) == ("done", 1, 2, {"reason": "new"})
    assert hands.must_claim("default").call() == Call(sample_tasks.fail.path, (), {"reason": "new"})
    assert dead_letters.count(redis_client) == 2


def test_a_unique_job_whose_lock_another_one_has_is_refused_and_takes_it_again_when_it_is_free(
    redis_client: redis.Redis, hands: Hands
) -> None:
    keyed.spec("o1", job_id="first")
    enqueue(redis_client, keyed.spec("o1", job_id="first"), now=NOW)
    hands.fail(hands.must_claim("default"), Permanent("no"))
    assert enqueue(redis_client, keyed.spec("o1", job_id="second"), now=NOW), "a dead job holds no lock"
    before = snapshot(redis_client)
    with pytest.raises(Conflict, match="job second does the same"):
        dead_letters.redrive(redis_client, "first")
    assert changes(before, snapshot(redis_client)) == {}
    asked = redrives.request(redis_client, "redrive", by="test")
    Redrives(redis_client).tick(time.time())
    assert redrives.get(redis_client, asked.id).refused == 1
    hands.finish(hands.must_claim("default"))
    dead_letters.redrive(redis_client, "first")
    assert not enqueue(redis_client, keyed.spec("o1", job_id="third"), now=NOW), "the redriven job has the lock"


def test_orders_go_on_with_their_redriven_jobs_and_give_back_stock_with_discarded_ones(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    floor.put("A", 9)
    orders = [floor.order(("A", 2)) for _ in range(2)]
    hands.work_off("picking")
    hands.fail(hands.must_claim("packing"), Permanent("torn box"))
    redrives.request(redis_client, "redrive", by="test")
    hands.fail(hands.must_claim("packing"), Permanent("no label"))
    [group] = [group.group for group in dead_letters.groups(redis_client) if group.error == "no label"]
    redrives.request(redis_client, "discard", by="test", group=group)
    assert Redrives(redis_client).tick(time.time()) == {"redriven": 1, "discarded": 1}
    assert sorted(floor.status(order_id) for order_id in orders) == ["dead", "packing"]
    assert floor.stock("A") == (9, 2)
    assert not redis_client.exists(keys.REDRIVING)
    floor.check_books()


def test_redrive_lua_called_twice_or_after_the_end_of_its_record_changes_nothing(redis_client: redis.Redis) -> None:
    bury_many(redis_client, ids_of(2), NOW)
    asked = redrives.request(redis_client, "redrive", by="test")
    places = [keys.redrive(asked.id), keys.redrive_letters(asked.id)]

    def call(job_id: str) -> int:
        job = [keys.job(job_id), keys.failed("default"), keys.results(job_id)]
        return int(REDRIVE(redis_client, [*job, *places], [job_id, "default", repr(NOW), "", "test", ""]))

    assert [call("j00000") for _ in range(2)] == [1, 0]
    redrives.cancel(redis_client, asked.id, by="test")
    before = snapshot(redis_client)
    assert call("j00001") == 0
    assert redrives.end(redis_client, asked.id, "done", NOW) is False
    with pytest.raises(Conflict, match="is cancelled"):
        redrives.cancel(redis_client, asked.id, by="test")
    assert Redrives(redis_client).tick(time.time()) == {}
    assert changes(before, snapshot(redis_client)) == {}
    record = redrives.get(redis_client, asked.id)
    assert (record.state, record.done, dead_letters.count(redis_client)) == ("cancelled", 1, 1)
    assert 0 < redis_client.ttl(places[0]) <= redrives.KEPT_S


def test_open_records_are_bounded_and_listed_before_those_that_have_ended(redis_client: redis.Redis) -> None:
    for job_id in ids_of(2):
        bury_many(redis_client, [job_id], NOW)
    asked = [redrives.request(redis_client, "redrive", by="test").id for _ in range(redrives.MAX_OPEN)]
    with pytest.raises(Conflict, match="cancel"):
        redrives.request(redis_client, "redrive", by="test")
    for record_id in asked[:3]:
        redrives.cancel(redis_client, record_id, by="test")
    listed, cursor = [], None
    while True:
        page, cursor = redrives.page(redis_client, cursor=cursor, limit=6)
        listed += [record.id for record in page]
        if cursor is None:
            break
    assert sorted(listed) == sorted(asked)
    assert listed[-3:] == [asked[2], asked[1], asked[0]]
    for rate in (0.0, -1.0, math.nan, math.inf, 1e9):
        with pytest.raises(InvalidField, match="rate_per_s"):
            redrives.request(redis_client, "redrive", by="test", rate_per_s=rate)
    with pytest.raises(NotFound):
        redrives.cancel(redis_client, "none", by="test")


def test_a_letter_that_is_damaged_stops_no_other(redis_client: redis.Redis) -> None:
    bury_many(redis_client, ids_of(3), NOW)
    redis_client.delete(keys.job("j00000"))
    redis_client.delete(keys.job("j00001"))
    redis_client.set(keys.job("j00001"), "planted")
    for action in ("redrive", "discard"):
        bury_now(redis_client, "j00002", "no a", NOW + 1)
        asked = redrives.request(redis_client, action, by="test")
        for _ in range(3):
            Redrives(redis_client).tick(time.time())
        record = redrives.get(redis_client, asked.id)
        assert (record.state, record.done) == ("done", 1)
