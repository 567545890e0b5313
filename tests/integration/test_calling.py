"""Calling a task: each way to enqueue, what options of a call do to the job and in the worker, and how the job ends for it."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
import sample_tasks
from asking import Ask
from command_counts import commands_of
from hands import Hands
from job_watch import LIMIT_S, status, wait_until
from processes import Processes, wait_for
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import InvalidField, JobFailed, RetryAfter, SoftTimeLimitExceeded
from jobs.queue import attempts, calling, dead_letters, ending, job_store, routing
from jobs.queue.backoff import Backoff
from jobs.queue.calling import Calling
from jobs.queue.ending import Claim, Written
from jobs.queue.handle import JobHandle
from jobs.queue.job import CANCELLED_TTL_S
from jobs.settings import Settings

NOW = 1_763_764_205.0


def job(client: redis.Redis, handle: JobHandle) -> dict[str, str]:
    """The job's hash."""
    return {name.decode(): value.decode() for name, value in client.hgetall(keys.job(handle.id)).items()}


# --- ways to call ----------------------------------------------------------------------------


def test_delay_enqueues_at_once_in_one_round_trip(redis_client: redis.Redis, settings: Settings) -> None:
    sample_tasks.add.delay(0, 0)
    before = commands_of(redis_client)["evalsha"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(redis.client.Pipeline, "execute", None)  # a pipeline would be another round trip
        handle = sample_tasks.add.delay(1, b=2)
    assert commands_of(redis_client)["evalsha"] - before == 1
    assert (handle.status(), redis_client.lrange(keys.queue("default"), 0, -1)[-1].decode()) == ("queued", handle.id)
    assert json.loads(job(redis_client, handle)["data"])[2:] == [[1], {"b": 2}]


def test_a_call_may_start_in_some_seconds_or_at_an_instant(redis_client: redis.Redis, settings: Settings) -> None:
    now = time.time()
    when = datetime.now(UTC) + timedelta(seconds=90)
    soon, then, number = (
        sample_tasks.add.enqueue_in(30.5, 1, 2),
        sample_tasks.add.enqueue_at(when, 1, 2),
        sample_tasks.add.enqueue_at(now + 60.25, 1, b=2),
    )
    due = {name.decode(): score for name, score in redis_client.zrange(keys.SCHEDULED_JOBS, 0, -1, withscores=True)}
    assert due[soon.id] == pytest.approx(now + 30.5, abs=1)
    assert (due[then.id], due[number.id]) == (pytest.approx(when.timestamp()), now + 60.25)
    assert {handle.status() for handle in (soon, then, number)} == {"scheduled"}


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_a_delay_that_never_ends_is_refused_and_leaves_nothing(
    redis_client: redis.Redis, settings: Settings, seconds: float
) -> None:
    for call in (sample_tasks.add.enqueue_in, sample_tasks.add.enqueue_at):
        with pytest.raises(InvalidField, match="due_at"):
            call(seconds, 1, 2)
    assert snapshot(redis_client) == {}


def test_an_instant_without_an_offset_is_refused(settings: Settings) -> None:
    with pytest.raises(InvalidField, match="when: a datetime needs an offset"):
        sample_tasks.add.enqueue_at(datetime(2025, 11, 21), 1, 2)


def test_many_calls_travel_together(redis_client: redis.Redis, settings: Settings) -> None:
    sample_tasks.add.delay(0, 0)
    redis_client.delete(keys.queue("default"))
    before = commands_of(redis_client)["evalsha"]
    handles = sample_tasks.add.options(priority="high").enqueue_many((1, number) for number in range(1_201))
    assert commands_of(redis_client)["evalsha"] - before == 3
    assert redis_client.lrange(keys.queue("default.high"), 0, -1) == [handle.id.encode() for handle in handles]
    assert redis_client.hget(keys.totals("default.high"), "enqueued") == b"1201"
    assert sample_tasks.add.enqueue_many([]) == []


def test_one_bad_call_among_many_is_refused_before_any_is_sent(redis_client: redis.Redis, settings: Settings) -> None:
    with pytest.raises(InvalidField, match="argument 'b' must be JSON"):
        sample_tasks.add.enqueue_many([(1, 2), (1, {3})])
    assert snapshot(redis_client) == {}


def test_the_async_twins_do_the_same(redis_client: redis.Redis, settings: Settings) -> None:
    task = sample_tasks.add

    async def all_of_them() -> list[JobHandle]:
        one = [await task.delay_async(1, 2), await task.enqueue_in_async(30, 1, 2)]
        return [*one, await task.enqueue_at_async(time.time() + 60, 1, 2), *await task.enqueue_many_async([(1, 2), (3, 4)])]

    twins = asyncio.run(all_of_them())
    one = [task.delay(1, 2), task.enqueue_in(30, 1, 2), task.enqueue_at(time.time() + 60, 1, 2)]
    for handle, twin in zip([*one, *task.enqueue_many([(1, 2), (3, 4)])], twins, strict=True):
        vary = {"created_at", "enqueued_at"}
        found = [{name: text for name, text in job(redis_client, each).items() if name not in vary} for each in (handle, twin)]
        assert found[0] == found[1]


def test_the_async_twins_refuse_the_same(settings: Settings) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: sample_tasks.add.delay_async({1}, 2),
        lambda: sample_tasks.add.enqueue_in_async(1, {1}, 2),
        lambda: sample_tasks.add.enqueue_many_async([({1}, 2)]),
    ]

    async def awaited(call: Callable[[], Awaitable[object]]) -> None:
        await call()

    for call in calls:
        with pytest.raises(InvalidField, match="argument 'a' must be JSON"):
            asyncio.run(awaited(call))


# --- options of a call -----------------------------------------------------------------------


def test_each_option_of_a_call_is_on_the_job(redis_client: redis.Redis, settings: Settings) -> None:
    calls = sample_tasks.add.options(
        queue="mail",
        priority="low",
        time_limit_s=2.5,
        soft_time_limit_s=1.5,
        retry=Backoff(7, 0.5, 60.0, "decorrelated"),
        expires_s=60,
        result_ttl_s=9,
        unique=True,
    )
    found = job(redis_client, handle := calls.delay(1, 2))
    assert redis_client.lrange(keys.queue("mail.low"), 0, -1) == [handle.id.encode()]
    names = ("origin", "timeout", "time_limit_s", "soft_time_limit_s", "retry", "result_ttl")
    assert [found[name] for name in names] == ["mail.low", "2", "2.5", "1.5", "7:0.5:60.0:decorrelated", "9"]
    assert float(found["expires_at"]) == pytest.approx(time.time() + 60, abs=5)
    assert redis_client.get(found["unique"]) == handle.id.encode()
    assert job(redis_client, sample_tasks.add.options(ignore_result=True).delay(1, 2))["result_ttl"] == "0"
    assert "expires_at" not in job(redis_client, sample_tasks.add.delay(1, 2)), "the options were those of one call"


def test_a_route_in_the_settings_beats_the_declared_queue_and_a_call_beats_both(
    redis_client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "current", lambda: Settings(routes=(("sample.*", "sampled"),)))
    routing.routed.cache_clear()
    try:
        calls: list[Calling] = [
            sample_tasks.add,
            sample_tasks.add.options(priority="high"),
            sample_tasks.add.options(queue="own"),
        ]
        assert [job(redis_client, call.delay(1, 2))["origin"] for call in calls] == ["sampled", "sampled.high", "own"]
    finally:
        routing.routed.cache_clear()


def test_the_numbers_of_a_retry_that_a_call_asks_for_hold_and_the_tasks_errors_too(
    redis_client: redis.Redis, hands: Hands, processes: Processes
) -> None:
    twice = sample_tasks.fail.options(retry=Backoff(2, 0.0, 0.0)).delay("no")
    forgiven = sample_tasks.refuse.options(retry=Backoff(9, 0.0, 0.0)).delay("no")
    often = sample_tasks.fail.options(retry=Backoff(25, 0.0, 0.0)).delay("often")
    processes.worker("default", options=("--burst",)).ended(LIMIT_S)
    letters = {letter.id: letter for letter in dead_letters.page(redis_client, group=None, cursor=None, limit=9)[0]}
    assert [len(letters[handle.id].attempts) for handle in (twice, forgiven)] == [2, 1]
    kept = letters[often.id].attempts
    assert [attempt.attempt for attempt in kept] == list(range(6, 26)), "the last twenty"
    for attempt in kept:
        assert attempt.started_at <= attempt.ended_at <= time.time()
        assert attempt.worker.startswith("default-")
        assert (attempt.error_type, attempt.error) == ("ValueError", "often")
        assert "raise ValueError(reason)" in attempt.traceback


def test_time_limits_result_and_its_life_are_those_of_the_call(
    redis_client: redis.Redis, processes: Processes, settings: Settings
) -> None:
    short = sample_tasks.mind_limit.options(soft_time_limit_s=None, time_limit_s=0.2).delay(caught=True)
    ignored = sample_tasks.add.options(ignore_result=True).delay(1, 2)
    brief = sample_tasks.add.options(result_ttl_s=50).delay(1, 2)
    ever = sample_tasks.add.options(result_ttl_s=-1).delay(1, 2)
    processes.worker("default", options=("--burst",)).ended(LIMIT_S)
    assert dead_letters.get(redis_client, short.id).error == "ran longer than its time limit of 0.2 s"
    assert status(redis_client, ignored.id) == "gone"
    assert (brief.result(), ever.result()) == (3, 3)
    assert 0 < redis_client.ttl(keys.job(brief.id)) <= 50
    assert redis_client.ttl(keys.job(ever.id)) == -1


# --- soft and hard limits --------------------------------------------------------------------


@pytest.mark.parametrize("task", [sample_tasks.mind_limit, sample_tasks.mind_limit_async], ids=["sync", "async"])
def test_a_soft_limit_may_be_caught_but_not_by_except_exception(
    redis_client: redis.Redis, processes: Processes, settings: Settings, task: Calling
) -> None:
    caught, uncaught = task.delay(caught=True), task.delay(caught=False)
    processes.worker("default")
    assert caught.wait(LIMIT_S) == "tidied up"
    with pytest.raises(JobFailed, match=r"SoftTimeLimitExceeded: ran longer than its soft time limit of 0\.2 s"):
        uncaught.wait(LIMIT_S)


def test_a_coroutine_that_blocks_its_loop_meets_its_hard_limit_too(
    redis_client: redis.Redis, processes: Processes, settings: Settings
) -> None:
    worker = processes.worker("default")
    blocked, after = sample_tasks.block_loop.delay(), sample_tasks.add.delay(1, 2)
    with pytest.raises(JobFailed, match=r"TimeLimitExceeded: ran longer than its time limit of 0\.2 s"):
        blocked.wait(10)
    assert after.wait(LIMIT_S) == 3
    assert worker.runs


# --- a retry that the task asks for ----------------------------------------------------------


def test_a_delay_of_less_than_a_second_is_kept_by_scheduler_and_worker(
    redis_client: redis.Redis, processes: Processes, settings: Settings, tmp_path: Path
) -> None:
    processes.worker("default").prints("worker started")
    processes.start("python", "-m", "scheduler")
    wait_for(lambda: redis_client.exists(keys.SCHEDULER_LOCK), LIMIT_S, "a scheduler leads")
    late = []
    for number in range(3):
        log = tmp_path / f"{number}"
        assert sample_tasks.ask_again.delay(0.4, str(log)).wait(LIMIT_S) == 2
        first, second = (float(line) for line in log.read_text().split())
        assert second - first >= 0.4
        late.append(second - first - 0.4)
    assert min(late) < 0.3, late


def test_what_a_task_asks_for_is_what_the_job_waits(redis_client: redis.Redis, hands: Hands) -> None:
    handle = sample_tasks.ask_again.delay(0.05, "unused")
    claim = hands.must_claim("default", now=NOW)
    assert hands.fail(claim, RetryAfter(0.05, "busy"), now=NOW) is Written.NOW
    assert redis_client.zscore(keys.scheduled("default"), handle.id) == pytest.approx(NOW + 0.05, abs=1e-6)


# --- expiry ----------------------------------------------------------------------------------


def test_a_job_that_is_not_started_in_time_ends_visibly_and_is_counted(
    redis_client: redis.Redis, processes: Processes, settings: Settings
) -> None:
    late = sample_tasks.add.options(expires_s=0.001, unique=True).delay(1, 2)
    time.sleep(0.01)
    good = sample_tasks.add.options(expires_s=60).delay(1, 3)
    processes.worker("default")
    assert good.wait(LIMIT_S) == 4
    with pytest.raises(JobFailed, match="is canceled"):
        late.wait(LIMIT_S)
    view = job_store.get(redis_client, late.id)
    assert view.reason is not None
    assert (view.status, view.reason[:24]) == ("canceled", "expired: not started by ")
    assert redis_client.hget(keys.totals("default"), "expired") == b"1"
    assert redis_client.zscore("rq:canceled:default", late.id) is not None
    assert 0 < redis_client.ttl(keys.job(late.id)) <= CANCELLED_TTL_S
    assert not redis_client.exists(keys.wip("default"))
    assert [key for key in snapshot(redis_client) if key.startswith("turnstile:unique")] == []


def test_a_job_that_was_started_in_time_does_not_expire_before_its_next_attempt(
    redis_client: redis.Redis, hands: Hands, processes: Processes
) -> None:
    failed = sample_tasks.fail.options(expires_s=0.5, retry=Backoff(2, 0.0, 0.0)).delay("no")
    hands.fail(hands.must_claim("default"), ValueError("no"))
    crashed = sample_tasks.add.options(expires_s=0.5).delay(1, 2)
    hands.fail(hands.must_claim("default"), ValueError("no"))
    hands.must_claim("default")
    hands.reclaim("default")
    time.sleep(0.6)
    processes.worker("default", options=("--burst",)).ended(LIMIT_S)
    assert (status(redis_client, failed.id), crashed.result()) == ("failed", 3)


@pytest.mark.parametrize("due_in_s", [None, 0.1], ids=["handed back", "deferred"])
def test_a_job_that_was_started_in_time_and_came_back_does_not_expire(
    redis_client: redis.Redis, settings: Settings, hands: Hands, processes: Processes, due_in_s: float | None
) -> None:
    back = sample_tasks.add.options(expires_s=0.5).delay(1, 2)
    now = time.time()
    ending.release(redis_client, hands.must_claim("default"), now, None if due_in_s is None else now + due_in_s)
    time.sleep(0.6)
    hands.promote("default")
    processes.worker("default", options=("--burst",)).ended(LIMIT_S)
    assert back.result() == 3


# --- endings, twice and out of order ---------------------------------------------------------


@pytest.fixture
def claim(redis_client: redis.Redis, hands: Hands) -> Claim:
    calling.enqueue(redis_client, sample_tasks.single.spec(job_id="j1", now=NOW), now=NOW)
    return hands.must_claim("default", now=NOW, execution="e1")


ENDINGS: dict[str, Callable[[Hands, Claim], Written]] = {
    "finish": lambda hands, claim: hands.finish(claim, 3),
    "retry": lambda hands, claim: ending.retry(
        hands.client, claim, attempts.failed_attempt(1, NOW, NOW, "w", ValueError("x")), 10.0
    ),
    "expire": lambda hands, claim: ending.expire(hands.client, claim, NOW + 1),
    "defer": lambda hands, claim: ending.release(hands.client, claim, NOW + 1, NOW + 60),
    "hand back": lambda hands, claim: ending.release(hands.client, claim, NOW + 1),
}


@pytest.mark.parametrize(("first", "second"), list(itertools.product(ENDINGS, ENDINGS)))
def test_an_execution_ends_its_job_once_whatever_it_says_later(
    redis_client: redis.Redis, hands: Hands, claim: Claim, first: str, second: str
) -> None:
    assert ENDINGS[first](hands, claim) is Written.NOW
    before = snapshot(redis_client)
    assert ENDINGS[second](hands, claim) is Written.BEFORE
    assert changes(before, snapshot(redis_client)) == {}


@pytest.mark.parametrize("how", ENDINGS)
def test_who_has_lost_the_lease_writes_nothing(redis_client: redis.Redis, hands: Hands, claim: Claim, how: str) -> None:
    hands.reclaim("default")
    other = hands.must_claim("default", now=NOW, execution="e2")
    before = snapshot(redis_client)
    assert ENDINGS[how](hands, claim) is Written.LEASE_LOST
    assert changes(before, snapshot(redis_client)) == {}
    assert hands.finish(other) is Written.NOW
    before = snapshot(redis_client)
    assert ENDINGS[how](hands, claim) is Written.LEASE_LOST
    assert changes(before, snapshot(redis_client)) == {}


def test_a_deferred_job_waits_in_redis_with_its_attempts_and_is_counted(
    redis_client: redis.Redis, hands: Hands, claim: Claim
) -> None:
    assert ending.release(redis_client, claim, NOW + 1, NOW + 60.5) is Written.NOW
    after = snapshot(redis_client)
    found = after["rq:job:j1"]
    assert (found["status"], found["deferred"], found.get("failures"), found.get("worker_name")) == ("scheduled", "1", None, None)
    assert after["rq:scheduled:default"] == {"j1": NOW + 60.5}
    assert after["turnstile:totals:default"]["deferred"] == "1"
    assert "rq:wip:default" not in after
    assert job_store.get(redis_client, "j1").due_at == NOW + 60.5
    hands.promote("default")
    again = hands.must_claim("default")
    assert (again.id, again.attempt) == ("j1", 1)


def test_a_script_of_the_async_client_answers_like_that_of_the_sync_one(redis_client: redis.Redis, ask: Ask) -> None:
    specs = [sample_tasks.single.spec(job_id=f"j{number}") for number in range(3)]
    first = ask(lambda client: calling.place_many_async(client, specs, now=NOW))
    assert first == [("j0", True), ("j0", False), ("j0", False)]
    assert calling.place_many(redis_client, specs, now=NOW) == [("j0", False)] * 3


def test_the_errors_of_a_limit_are_no_exceptions() -> None:
    assert not issubclass(SoftTimeLimitExceeded, Exception)


def test_a_stock_worker_runs_jobs_with_every_option_set(
    redis_client: redis.Redis, processes: Processes, settings: Settings
) -> None:
    every = sample_tasks.add.options(
        queue="mail",
        priority="high",
        time_limit_s=2.5,
        soft_time_limit_s=1.5,
        retry=Backoff(2, 0.0, 0.0),
        expires_s=60,
        result_ttl_s=90,
        unique=True,
    )
    handle = every.delay(1, 2)
    failing = sample_tasks.fail.options(queue="mail", unique=True, retry=Backoff(2, 0.0, 0.0)).delay("no")
    processes.stock_worker("mail.high", "mail")
    assert handle.wait(LIMIT_S) == 3
    wait_until(redis_client, failing.id, "failed")
    wait_for(lambda: redis_client.zscore(keys.failed("mail"), failing.id) is not None, LIMIT_S, "RQ lists the dead letter")
    assert len(dead_letters.get(redis_client, failing.id).attempts) == 2
    assert every.delay(1, 2).id != handle.id, "a lock that a stock worker left is free"
