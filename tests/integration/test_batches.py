"""Batches in Redis: taken together, each item with an outcome of its own, and nothing lost or written twice whoever dies."""

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from asking import Ask
from hands import LEASE_S, PROMOTE, Hands
from job_watch import LIMIT_S, result, wait_for_file, wait_until
from killing import Killer
from processes import Processes, wait_for
from sample_batches import CALLS, gather, hang, keep, linger
from snapshots import changes, snapshot

from jobs import key_patterns, keys
from jobs.errors import CircuitOpen, DrainTimeout, Permanent
from jobs.queue import dead_letters, ending
from jobs.queue.batches import DONE, heal
from jobs.queue.handle import JobHandle

QUEUE = "default"


@pytest.fixture(autouse=True)
def _no_calls() -> Iterator[None]:
    CALLS.clear()
    yield


def give(client: redis.Redis, *ids: str) -> None:
    """Adds items that succeed."""
    gather.add_many(client, [{"give": item_id} for item_id in ids], ids)


def given(client: redis.Redis, *ids: str) -> bool:
    """Whether each of them has succeeded, and once."""
    return all(
        result(client, gather.job_id(item_id)) == {"give": item_id} and client.xlen(keys.results(gather.job_id(item_id))) == 1
        for item_id in ids
    )


def waiting(client: redis.Redis) -> list[str]:
    """The ids of the items that wait, which are those that are known."""
    found = [entry.decode().split(" ")[0] for entry in client.lrange(keys.batch("sample.gather"), 0, -1)]
    assert set(found) == set(map(bytes.decode, client.smembers(keys.batch_ids("sample.gather"))))
    return found


def promote(client: redis.Redis, now: float) -> int:
    """What the scheduler does at that time; returns how many jobs it moved."""
    return int(PROMOTE(client, [keys.SCHEDULED_JOBS, keys.QUEUES], [repr(now), 100, 0])[0])


# --- together --------------------------------------------------------------------------------


def test_items_that_pile_up_are_taken_together_up_to_the_limit(redis_client: redis.Redis, hands: Hands) -> None:
    give(redis_client, "a")
    give(redis_client, "b", "c", "d")
    [due] = redis_client.lrange(keys.queue(QUEUE), 0, -1)
    assert redis_client.get(keys.batch_due("sample.gather")) == due
    assert hands.work(QUEUE)
    assert (CALLS, waiting(redis_client)) == ([["a", "b", "c"]], ["d"])
    assert redis_client.llen(keys.queue(QUEUE)) == 1, "the next batch job is due"
    assert hands.work_off(QUEUE) == 1
    assert CALLS[1:] == [["d"]]
    assert not list(redis_client.scan_iter("turnstile:batch:*"))
    assert given(redis_client, "a", "b", "c", "d")


def test_a_result_is_kept_like_that_of_a_job_and_forgotten_in_time(redis_client: redis.Redis, hands: Hands) -> None:
    job_id = gather.add(redis_client, {"give": [[], {}, 2**53 + 1]})
    hands.work_off(QUEUE)
    assert result(redis_client, job_id) == JobHandle(job_id, redis_client).result() == {"give": [[], {}, 2**53 + 1]}
    assert 0 < redis_client.ttl(keys.job(job_id)) <= 500 >= redis_client.ttl(keys.results(job_id)) > 0
    assert redis_client.zscore(keys.finished(QUEUE), job_id) > time.time()
    assert redis_client.hget(keys.job(job_id), "task") == b"sample.gather.alone"


def test_a_result_is_kept_for_ever_when_the_batch_says_so(redis_client: redis.Redis, hands: Hands) -> None:
    job_id = keep.add(redis_client, 2**70)
    hands.work_off(QUEUE)
    assert result(redis_client, job_id) == 2**70
    assert redis_client.ttl(keys.job(job_id)) == redis_client.ttl(keys.results(job_id)) == -1
    assert redis_client.zscore(keys.finished(QUEUE), job_id) == float("inf")


def test_every_key_of_a_batch_is_documented_with_its_type(redis_client: redis.Redis, hands: Hands) -> None:
    give(redis_client, "a", "b", "c", "d")
    gather.add(redis_client, {"fail": "no"})
    hands.work_off(QUEUE)
    give(redis_client, "e")
    for key in redis_client.scan_iter():
        [listed, *_] = key_patterns.of(key.decode())
        assert listed.type == redis_client.type(key).decode(), key


def test_async_programs_add_items_too(redis_client: redis.Redis, hands: Hands, ask: Ask) -> None:
    [first] = ask(lambda client: gather.add_many_async(client, [{"give": "a"}], ["a"]))
    assert ask(lambda client: gather.add_many_async(client, [{"give": "a"}, {"give": "b"}], ["a", "b"])) == [
        first,
        gather.job_id("b"),
    ]
    hands.work_off(QUEUE)
    assert CALLS == [["a", "b"]]


# --- an item is added once -------------------------------------------------------------------


def test_an_item_is_not_added_again_while_it_waits_or_its_result_is_kept(redis_client: redis.Redis, hands: Hands) -> None:
    for expected in (["a", "b"], []):
        give(redis_client, "a", "b", "a")
        before = snapshot(redis_client)
        give(redis_client, "b", "a")
        assert changes(before, snapshot(redis_client)) == {}
        assert waiting(redis_client) == expected
        hands.work_off(QUEUE)
    assert CALLS == [["a", "b"]]
    redis_client.delete(keys.job(gather.job_id("a")))
    give(redis_client, "a", "b")
    assert waiting(redis_client) == ["a"], "its result has expired"


def test_an_item_is_not_added_again_while_it_is_retried_or_a_dead_letter(redis_client: redis.Redis, hands: Hands) -> None:
    job_id = gather.add(redis_client, {"fail": "no"}, "a")
    hands.work(QUEUE)
    give(redis_client, "a")
    assert waiting(redis_client) == []
    hands.work_off(QUEUE)
    assert redis_client.zscore(keys.DEAD, job_id)
    give(redis_client, "a")
    assert waiting(redis_client) == []
    dead_letters.discard(redis_client, job_id)
    give(redis_client, "a")
    assert waiting(redis_client) == ["a"]


def test_without_kept_results_an_item_is_forgotten_when_it_is_done(redis_client: redis.Redis, hands: Hands) -> None:
    job_id = linger.add(redis_client, {"give": 1}, "a")
    hands.promote(QUEUE)
    hands.work_off(QUEUE)
    assert CALLS == [["a"]]
    assert not redis_client.exists(keys.job(job_id), keys.results(job_id), *redis_client.scan_iter("turnstile:batch:*"))


# --- lingering -------------------------------------------------------------------------------


def test_the_job_of_the_first_item_waits_for_more_to_come(redis_client: redis.Redis, hands: Hands) -> None:
    before = time.time()
    linger.add(redis_client, {"give": 1}, "a")
    [(due, due_at)] = redis_client.zrange(keys.scheduled(QUEUE), 0, -1, withscores=True)
    assert before + 60 <= due_at <= time.time() + 60
    linger.add(redis_client, {"give": 2}, "b")
    assert promote(redis_client, due_at - 0.1) == 0
    assert not redis_client.exists(keys.queue(QUEUE))
    assert promote(redis_client, due_at) == 1
    assert redis_client.lrange(keys.queue(QUEUE), 0, -1) == [due]
    hands.work_off(QUEUE)
    assert CALLS == [["a", "b"]]


def test_a_full_batch_waits_no_longer_and_the_next_one_does_again(redis_client: redis.Redis, hands: Hands) -> None:
    linger.add(redis_client, {"give": 1}, "a")
    linger.add_many(redis_client, [{"give": 2}, {"give": 3}, {"give": 4}], ["b", "c", "d"])
    assert (redis_client.llen(keys.queue(QUEUE)), redis_client.zcard(keys.scheduled(QUEUE))) == (1, 0)
    linger.add(redis_client, {"give": 5}, "e")
    assert redis_client.llen(keys.queue(QUEUE)) == 1
    hands.work_off(QUEUE)
    assert CALLS == [["a", "b", "c"]]
    assert redis_client.zcard(keys.scheduled(QUEUE)) == 1
    assert promote(redis_client, time.time() + 61) == 1
    hands.work_off(QUEUE)
    assert CALLS[1:] == [["d", "e"]]


def test_a_first_load_that_fills_a_batch_does_not_linger(redis_client: redis.Redis, hands: Hands) -> None:
    linger.add_many(redis_client, [{"give": n} for n in range(6)])
    assert hands.work_off(QUEUE) == 2
    assert [len(call) for call in CALLS] == [3, 3]


# --- outcomes --------------------------------------------------------------------------------


def test_an_item_that_fails_goes_on_alone_to_the_dead_letters(redis_client: redis.Redis, hands: Hands) -> None:
    give(redis_client, "a")
    job_id = gather.add(redis_client, {"fail": "no street"}, "bad")
    give(redis_client, "b")
    hands.work(QUEUE)
    assert CALLS == [["a", "bad", "b"]]
    assert given(redis_client, "a", "b")
    hands.work_off(QUEUE)
    assert CALLS[1:] == [["bad"]] * 3
    letter = dead_letters.get(redis_client, job_id)
    assert (letter.task, letter.args) == ("sample.gather.alone", ["bad", {"fail": "no street"}])
    assert [(attempt.attempt, attempt.error) for attempt in letter.attempts] == [(n, "no street") for n in (1, 2, 3)]
    assert dead_letters.count(redis_client) == 1


def test_an_item_that_failed_waits_before_its_first_attempt_alone(redis_client: redis.Redis, hands: Hands) -> None:
    job_id = linger.add(redis_client, {"fail": "no"})
    hands.promote(QUEUE)
    before = time.time()
    hands.work_off(QUEUE)
    assert len(CALLS) == 1
    assert before < redis_client.zscore(keys.scheduled(QUEUE), job_id) <= time.time() + 100
    assert redis_client.hget(keys.job(job_id), "status") == b"scheduled"


@pytest.mark.parametrize("item", [{"refuse": "no"}, {"give": "object"}], ids=["past help", "no JSON"])
def test_an_item_that_cannot_succeed_is_tried_once_more_alone(
    redis_client: redis.Redis, hands: Hands, item: dict[str, Any]
) -> None:
    job_id = gather.add(redis_client, item, "bad")
    give(redis_client, "a")
    hands.work(QUEUE)
    assert given(redis_client, "a")
    claim = hands.must_claim(QUEUE)
    assert claim.id == job_id
    if "refuse" in item:
        with pytest.raises(Permanent):
            hands.run(claim)
    else:
        with pytest.raises(TypeError):
            hands.finish(claim, hands.run(claim))


@pytest.mark.parametrize("kind", ["error", "exit"])
def test_what_the_function_raises_makes_every_item_go_on_alone(redis_client: redis.Redis, hands: Hands, kind: str) -> None:
    give(redis_client, "a")
    gather.add(redis_client, {"raise": kind}, "bad")
    give(redis_client, "b")
    hands.work(QUEUE)
    assert waiting(redis_client) == []
    ready = [hands.must_claim(QUEUE) for _ in range(3)]
    assert {claim.id for claim in ready} == {gather.job_id(item_id) for item_id in ("a", "bad", "b")}
    for claim in ready:
        if claim.id != gather.job_id("bad"):
            hands.finish(claim, hands.run(claim))
    assert given(redis_client, "a", "b")


@pytest.mark.parametrize(
    ("kind", "error"), [("away", redis.exceptions.ConnectionError), ("circuit", CircuitOpen), ("drain", DrainTimeout)]
)
def test_what_says_nothing_about_the_items_leaves_them_where_they_are(
    redis_client: redis.Redis, hands: Hands, kind: str, error: type[BaseException]
) -> None:
    give(redis_client, "a")
    gather.add(redis_client, {"raise": kind}, "b")
    claim = hands.must_claim(QUEUE)
    before = snapshot(redis_client)
    with pytest.raises(error):
        hands.run(claim)
    assert changes(before, snapshot(redis_client)) == {}


def test_the_next_try_of_a_batch_that_ran_too_long_gives_each_item_a_job(redis_client: redis.Redis, hands: Hands) -> None:
    give(redis_client, "a", "b")
    hands.fail(hands.must_claim(QUEUE), ValueError("too long"))
    hands.promote(QUEUE)
    hands.work(QUEUE)
    assert CALLS == []
    assert redis_client.lrange(keys.queue(QUEUE), 0, -1) == [gather.job_id(item_id).encode() for item_id in ("a", "b")]


# --- one job is due --------------------------------------------------------------------------


def test_a_batch_job_that_has_ended_or_is_not_due_does_nothing(redis_client: redis.Redis, hands: Hands) -> None:
    give(redis_client, "a", "b", "c", "d")
    claim = hands.must_claim(QUEUE)
    hands.run(claim)
    before = snapshot(redis_client)
    assert hands.run(claim) == {}
    job = gather.run.spec()
    late: list[Any] = [
        claim.id,
        repr(time.time()),
        3,
        0.0,
        job.id,
        job.queue,
        job.fields,
        500,
        "w",
        "d",
        'd {"give":"d"}',
        "",
        "",
        "",
        "",
        "",
    ]
    places = [keys.batch("sample.gather"), keys.batch_ids("sample.gather"), keys.batch_due("sample.gather")]
    assert DONE(redis_client, places, late) == 0
    assert changes(before, snapshot(redis_client)) == {}


def test_an_item_that_is_gone_has_no_second_outcome(redis_client: redis.Redis, hands: Hands) -> None:
    give(redis_client, "a")
    due, job = hands.must_claim(QUEUE).id, gather.run.spec()
    item = ["x", "x 1", "sample-gather--x", QUEUE, job.fields, "", ""]
    args: list[Any] = [due, repr(time.time()), 3, 0.0, job.id, job.queue, job.fields, 500, "w", *item]
    places = [keys.batch("sample.gather"), keys.batch_ids("sample.gather"), keys.batch_due("sample.gather")]
    assert DONE(redis_client, places, args) == 0
    assert not redis_client.exists(keys.job("sample-gather--x"))
    assert (waiting(redis_client), redis_client.lrange(keys.queue(QUEUE), 0, -1)) == (["a"], [job.id.encode()])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_item_has_one_outcome_whichever_round_trip_the_worker_is_killed_at(
    redis_client: redis.Redis, hands: Hands, killer: Killer, after: bool
) -> None:
    for round_trip in itertools.count():
        redis_client.flushall()
        give(redis_client, "a", "b", "c", "d")
        bad = gather.add(redis_client, {"fail": "no"}, "bad")
        with killer.at(round_trip, after=after):
            hands.work_off(QUEUE)
        give(redis_client, "a", "e")
        for _ in range(3):
            hands.reclaim(QUEUE)
            heal(redis_client, time.time())
            hands.work_off(QUEUE)
        assert given(redis_client, "a", "b", "c", "d", "e"), round_trip
        assert len(dead_letters.get(redis_client, bad).attempts) == 3
        assert not list(redis_client.scan_iter("turnstile:batch:*"))
        if not killer.struck:
            break
    assert round_trip > 10


def test_a_full_memory_refuses_new_items_whole_and_lets_a_batch_end(redis_client: redis.Redis, hands: Hands) -> None:
    give(redis_client, "a")
    bad = gather.add(redis_client, {"fail": "no"}, "bad")
    claim = hands.must_claim(QUEUE)
    before = snapshot(redis_client)
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            give(redis_client, "b", "c")
        assert changes(before, snapshot(redis_client)) == {}
        hands.run(claim)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert given(redis_client, "a")
    assert redis_client.lrange(keys.queue(QUEUE), 0, -1) == [bad.encode()]


# --- healing ---------------------------------------------------------------------------------


def test_items_whose_job_was_lost_get_another_one(redis_client: redis.Redis, hands: Hands) -> None:
    give(redis_client, "a")
    linger.add(redis_client, {"give": 1})
    before = snapshot(redis_client)
    assert heal(redis_client, time.time()) == []
    assert changes(before, snapshot(redis_client)) == {}
    redis_client.delete(keys.queue(QUEUE), keys.scheduled(QUEUE))
    lost = [redis_client.get(keys.batch_due(name)).decode() for name in ("sample.gather", "sample.linger")]
    said = heal(redis_client, time.time())
    assert [line.partition(":")[2].partition(" ")[0] for line in said] == ["batch:sample.gather:", "batch:sample.linger:"]
    for job_id in lost:
        assert redis_client.hmget(keys.job(job_id), "status", "reason") == [b"canceled", b"lost"]
        assert redis_client.ttl(keys.job(job_id)) > 0
    assert heal(redis_client, time.time()) == []
    hands.work_off(QUEUE)
    assert given(redis_client, "a")
    assert not list(redis_client.scan_iter("turnstile:batch:*"))


# --- real workers ----------------------------------------------------------------------------


def test_only_the_item_that_kills_workers_is_quarantined(redis_client: redis.Redis, hands: Hands, processes: Processes) -> None:
    processes.worker_class = "IoWorker"  # whose process is the one that the job kills
    give(redis_client, "a")
    poison = gather.add(redis_client, {"die": 1}, "poison")
    give(redis_client, "b")
    for _ in range(4):  # with its batch, and alone
        worker = processes.worker(QUEUE, config="batch_config", options=("--burst",))
        assert worker.ended(LIMIT_S) == -signal.SIGKILL
        _reclaimed, buried, _ghosts = hands.reclaim(QUEUE)
    assert [member.partition(":")[0] for member in buried] == [poison]
    assert ending.bury_crashed(redis_client, QUEUE, buried[0], time.time()) is ending.Written.NOW
    give(redis_client, "c")
    assert processes.worker(QUEUE, config="batch_config", options=("--burst",)).ended(LIMIT_S) == 0
    assert given(redis_client, "a", "b", "c")
    assert dead_letters.get(redis_client, poison).error_type == "Quarantined"
    assert dead_letters.count(redis_client) == 1
    assert not list(redis_client.scan_iter("turnstile:batch:*"))


def test_only_the_item_that_takes_too_long_fails(redis_client: redis.Redis, hands: Hands, processes: Processes) -> None:
    quick, slow = hang.add_many(redis_client, [0, 3_600])
    processes.worker(QUEUE, config="batch_config")

    def dead() -> bool:
        hands.promote(QUEUE)
        return redis_client.zscore(keys.DEAD, slow) is not None

    wait_for(dead, LIMIT_S, "the slow item is a dead letter")
    assert dead_letters.get(redis_client, slow).error_type == "TimeLimitExceeded"
    wait_until(redis_client, quick, "finished")
    assert dead_letters.count(redis_client) == 1


def test_a_worker_that_stood_still_through_its_batch_writes_no_second_outcome(
    redis_client: redis.Redis, hands: Hands, processes: Processes, tmp_path: Path
) -> None:
    give(redis_client, "a")
    held = gather.add(redis_client, {"hold": str(tmp_path)}, "held")
    stalled = processes.worker(QUEUE, config="batch_config")
    wait_for_file(tmp_path / "started-held")
    stalled.send(signal.SIGSTOP)
    hands.reclaim(QUEUE, now=time.time() + LEASE_S + 5)
    (tmp_path / "go").touch()
    hands.work_off(QUEUE)
    wait_until(redis_client, held, "finished")
    give(redis_client, "c")
    before = snapshot(redis_client)
    assert hands.claim(QUEUE)
    stalled.send(signal.SIGCONT)
    stalled.prints("lease lost, nothing written")
    after = snapshot(redis_client)
    for key in ("turnstile:batch:sample.gather", "turnstile:batch:sample.gather:job", f"rq:results:{held}"):
        assert before[key] == after[key]
    assert given(redis_client, "a")


def test_a_stock_worker_runs_batches_and_their_items(redis_client: redis.Redis, processes: Processes) -> None:
    give(redis_client, "a")
    bad = gather.add(redis_client, {"fail": "no"}, "bad")
    assert processes.stock_worker(QUEUE, config="batch_config", options=("--burst",)).ended(LIMIT_S) == 0
    assert given(redis_client, "a")
    assert len(dead_letters.get(redis_client, bad).attempts) == 3
