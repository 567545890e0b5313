"""Delayed jobs: listed, searched, run now, rescheduled, cancelled; beside the scheduler, which promotes them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import redis
import sample_tasks
from delayed_floor import HOUR, NOW, define, hold, promote, ready, walk
from hands import Hands
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import Conflict, InvalidField
from jobs.queue import audit, calling, delayed, job_store, task


@task.task(name="test.alone", queue="calm", unique=True)
def alone() -> None:
    pass


def due(client: redis.Redis, job_id: str) -> float | None:
    return job_store.get(client, job_id).due_at


def deeds(client: redis.Redis) -> list[tuple[str, str, str]]:
    return [(entry.what, entry.who, entry.target) for entry in reversed(audit.page(client, cursor=None, limit=99)[0])]


# --- the list -------------------------------------------------------------------------------------


def test_delayed_jobs_are_listed_in_pages_without_the_periodic_ones(redis_client: redis.Redis) -> None:
    define(redis_client, NOW + 300)
    for number in range(5):
        hold(redis_client, f"same-{number}", NOW + 9)
    redis_client.zadd(keys.scheduled("calm"), {"same-2": NOW + 9, "gone": NOW + 1})
    redis_client.zrem(keys.SCHEDULED_JOBS, "same-2")
    for limit in (1, 2, 5, 100):
        assert walk(redis_client, limit) == [f"same-{number}" for number in range(5)]
    [first, *_] = delayed.page(redis_client, limit=9).scheduled
    assert (first.task, first.queue, first.due_at, first.description) == ("test.later", "calm", NOW + 9, "test.later(1)")
    with pytest.raises(InvalidField):
        delayed.page(redis_client, limit=2, cursor="nan:x")


def test_pages_of_thousands_due_at_one_instant_hold_each_once(redis_client: redis.Redis) -> None:
    ids = [f"{kind}{number}" for number in range(700) for kind in ("a", "Z", "-")]
    for job_id in ids:
        redis_client.hset(keys.job(job_id), mapping={"origin": "calm", "task": "t"})
    redis_client.zadd(keys.SCHEDULED_JOBS, dict.fromkeys(ids[::2], NOW))
    redis_client.zadd(keys.scheduled("calm"), dict.fromkeys(ids[1::2], NOW))
    redis_client.sadd(keys.QUEUES, keys.queue("calm"))
    assert walk(redis_client, 499) == sorted(ids)


def test_jobs_that_leave_while_the_list_is_read_shift_no_other(redis_client: redis.Redis) -> None:
    for number in range(12):
        hold(redis_client, f"j{number:02}", NOW + number // 6)
    first = delayed.page(redis_client, limit=4)
    redis_client.zrem(keys.SCHEDULED_JOBS, "j00", "j03", "j05")
    rest = delayed.page(redis_client, limit=99, cursor=first.next_cursor)
    assert [job.id for job in rest.scheduled] == ["j04", *(f"j{number:02}" for number in range(6, 12))]


def test_they_are_searched_by_task_queue_and_text(redis_client: redis.Redis) -> None:
    for number in range(30):
        hold(redis_client, f"j{number}", NOW + number, number)
    other = sample_tasks.add.spec(1, 2, job_id="Odd-one", now=NOW)
    calling.enqueue(redis_client, other, now=NOW, due_at=NOW)
    assert walk(redis_client, task="test.later", q="LATER(2)") == ["j2"]
    assert walk(redis_client, q="odd-") == walk(redis_client, queue="default") == ["Odd-one"]
    assert walk(redis_client, task="test.later", queue="default") == []
    assert len(walk(redis_client, 7, queue="calm")) == 30


def test_a_search_looks_at_a_bounded_number_and_says_where_it_goes_on(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delayed, "STEP", 4)
    monkeypatch.setattr(delayed, "SEARCHED", 8)
    for number in range(20):
        hold(redis_client, f"j{number:02}", NOW + number)
    page = delayed.page(redis_client, limit=5, q="j19")
    assert (page.scheduled, page.next_cursor) == ([], f"{NOW + 7:.0f}:j07")
    assert walk(redis_client, q="j19") == ["j19"]


def test_a_key_that_is_no_job_hides_no_other(redis_client: redis.Redis) -> None:
    redis_client.set(keys.job("text"), "no hash")
    redis_client.zadd(keys.SCHEDULED_JOBS, {"text": NOW - 1, b"\xff": NOW - 1})
    hold(redis_client, "fine", NOW)
    assert walk(redis_client, 1) == ["fine"]


# --- run now --------------------------------------------------------------------------------------


def test_a_job_that_is_run_now_keeps_all_that_it_has_and_runs_once(redis_client: redis.Redis, hands: Hands) -> None:
    hold(redis_client, "j1", NOW + HOUR)
    before = redis_client.hgetall(keys.job("j1"))
    assert delayed.run_now(redis_client, "j1", NOW, by="ann").status == "queued"
    after = redis_client.hgetall(keys.job("j1"))
    assert {name for name in after if after[name] != before.get(name)} == {b"status", b"enqueued_at"}
    with pytest.raises(Conflict, match="queued"):
        delayed.run_now(redis_client, "j1", NOW, by="ann")
    promote(redis_client, NOW + 2 * HOUR)
    assert ready(redis_client) == ["j1"]
    assert deeds(redis_client) == [("run job", "ann", "j1")]


def test_a_retry_that_is_run_now_has_not_forgotten_its_failures(redis_client: redis.Redis, hands: Hands) -> None:
    calling.enqueue(redis_client, sample_tasks.fail_later.spec("x", job_id="j1"), now=time.time())
    hands.fail(hands.must_claim("default"), ValueError("x"))
    assert [job.failures for job in delayed.page(redis_client, limit=9).scheduled] == [1]
    delayed.run_now(redis_client, "j1", time.time(), by="ann")
    assert hands.must_claim("default").attempt == 2
    assert redis_client.zcard(keys.scheduled("default")) == 0


def test_a_job_that_was_promoted_first_is_not_moved_again(redis_client: redis.Redis, hands: Hands) -> None:
    hold(redis_client, "j1", NOW)
    promote(redis_client, NOW)
    for status in ("queued", "started"):
        with pytest.raises(Conflict, match=f"the job is {status}"):
            delayed.run_now(redis_client, "j1", NOW, by="ann")
        with pytest.raises(Conflict, match=f"the job is {status}"):
            delayed.reschedule(redis_client, "j1", NOW + HOUR, NOW, by="ann")
        if status == "queued":
            hands.must_claim("calm", now=NOW)
    assert (ready(redis_client), redis_client.zcard(keys.SCHEDULED_JOBS), deeds(redis_client)) == ([], 0, [])


def test_jobs_that_are_run_now_while_they_are_promoted_are_moved_once(redis_client: redis.Redis) -> None:
    ids = [f"j{number:03}" for number in range(300)]
    for job_id in ids:
        hold(redis_client, job_id, NOW)
    begun = threading.Event()

    def run_all() -> int:
        moved = 0
        for number, job_id in enumerate(reversed(ids)):
            with suppress(Conflict):
                delayed.run_now(redis_client, job_id, NOW, by="ann")
                moved += 1
            if number == 20:
                begun.set()
        return moved

    with ThreadPoolExecutor() as pool:
        running = pool.submit(run_all)
        assert begun.wait(30)
        promote(redis_client, NOW)
        moved = running.result(30)
    assert sorted(ready(redis_client)) == ids
    assert redis_client.xlen(keys.AUDIT) == moved >= 20


def test_a_full_redis_refuses_to_run_a_job_now_and_it_waits_on(redis_client: redis.Redis) -> None:
    hold(redis_client, "j1", NOW + HOUR)
    before = snapshot(redis_client)
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            delayed.run_now(redis_client, "j1", NOW, by="ann")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            delayed.reschedule(redis_client, "j1", NOW + 2 * HOUR, NOW, by="ann")
    finally:
        redis_client.config_set("maxmemory", 0)
    assert changes(before, snapshot(redis_client)) == {}


def test_the_front_of_the_queue_stays_the_place_of_a_job_that_asked_for_it(redis_client: redis.Redis) -> None:
    for number in range(3):
        hold(redis_client, f"j{number}", NOW + HOUR)
    redis_client.hset(keys.job("j2"), "enqueue_at_front", "1")
    for number in range(3):
        delayed.run_now(redis_client, f"j{number}", NOW, by="ann")
    assert ready(redis_client) == ["j2", "j0", "j1"]


# --- reschedule -----------------------------------------------------------------------------------


def test_a_rescheduled_job_is_due_at_its_new_time_and_expires_as_much_later(redis_client: redis.Redis) -> None:
    hold(redis_client, "j1", NOW + 10)
    for due_at, expires_at in ((NOW + HOUR, NOW + HOUR + 60), (NOW + 5.5, NOW + HOUR + 60)):
        assert delayed.reschedule(redis_client, "j1", due_at, NOW, by="ann").due_at == due_at
        assert float(redis_client.hget(keys.job("j1"), "expires_at") or 0) == expires_at
    promote(redis_client, NOW + 5)
    assert ready(redis_client) == []
    promote(redis_client, NOW + 5.5)
    assert ready(redis_client) == ["j1"]
    assert deeds(redis_client)[0] == ("reschedule job to 2027-01-15T09:00:00Z", "ann", "j1")


def test_a_retry_that_waits_for_its_backoff_can_be_put_off_further(redis_client: redis.Redis, hands: Hands) -> None:
    calling.enqueue(redis_client, sample_tasks.fail_later.spec("x", job_id="j1"), now=time.time())
    hands.fail(hands.must_claim("default"), ValueError("x"))
    now = time.time()
    delayed.reschedule(redis_client, "j1", now + HOUR, now, by="ann")
    assert redis_client.zscore(keys.scheduled("default"), "j1") == now + HOUR


@pytest.mark.parametrize("due_at", [NOW, NOW - 1, NOW + 367 * 86_400, float("nan"), float("inf"), float("-inf")])
def test_a_time_that_does_not_lie_ahead_within_a_year_is_refused(redis_client: redis.Redis, due_at: float) -> None:
    hold(redis_client, "j1", NOW + 10)
    with pytest.raises(InvalidField):
        delayed.reschedule(redis_client, "j1", due_at, NOW, by="ann")
    assert due(redis_client, "j1") == NOW + 10


def test_a_unique_job_keeps_its_lock_as_long_as_it_waits(redis_client: redis.Redis) -> None:
    now = time.time()
    spec = alone.build(alone.defaults, (), {}, job_id="j1", now=now, due_at=now + 10)
    calling.enqueue(redis_client, spec, now=now, due_at=now + 10)
    delayed.reschedule(redis_client, "j1", now + 300 * 86_400, now, by="ann")
    assert redis_client.ttl(spec.lock) > 300 * 86_400


# --- cancel ---------------------------------------------------------------------------------------


def test_a_cancelled_job_never_runs_and_stays_readable(redis_client: redis.Redis) -> None:
    hold(redis_client, "j1", NOW + 10)
    assert delayed.cancel(redis_client, "j1", NOW, by="ann").status == "canceled"
    promote(redis_client, NOW + HOUR)
    assert (ready(redis_client), walk(redis_client)) == ([], [])
    assert job_store.get(redis_client, "j1").reason == "cancelled"
    with pytest.raises(Conflict, match="canceled"):
        delayed.run_now(redis_client, "j1", NOW, by="ann")
    with pytest.raises(Conflict, match="canceled"):
        delayed.reschedule(redis_client, "j1", NOW + HOUR, NOW, by="ann")
    assert deeds(redis_client) == [("cancel job", "ann", "j1")]


def test_one_that_became_due_in_the_meantime_is_cancelled_all_the_same(redis_client: redis.Redis, hands: Hands) -> None:
    hold(redis_client, "j1", NOW)
    promote(redis_client, NOW)
    delayed.cancel(redis_client, "j1", NOW, by="ann")
    assert hands.claim("calm") is None


# --- how late -------------------------------------------------------------------------------------


def test_the_lag_is_that_of_the_earliest_due_time_of_any_set_and_needs_no_scheduler(redis_client: redis.Redis) -> None:
    now = time.time()
    redis_client.sadd(keys.QUEUES, keys.queue("calm"))
    redis_client.zadd(keys.SCHEDULED_JOBS, {"a": now + HOUR, "b": now + HOUR})
    assert delayed.state(redis_client) == delayed.DelayedState(0.0, {keys.SCHEDULED_JOBS: 2, keys.scheduled("calm"): 0})
    redis_client.zadd(keys.scheduled("calm"), {"c": now - 50})
    state = delayed.state(redis_client)
    assert 50 <= state.lag_s < 80 and state.jobs[keys.scheduled("calm")] == 1
    define(redis_client, now - HOUR)
    late = delayed.state(redis_client)
    assert late.lag_s >= HOUR and late.jobs == state.jobs
