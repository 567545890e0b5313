"""Creating, cancelling and purging jobs: each a single atomic step that can be repeated without harm."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
import sample_tasks
from asking import Ask
from hands import Hands
from snapshots import changes, snapshot

from jobs import keys
from jobs.queue import overview
from jobs.queue.calling import enqueue, place_async, place_many
from jobs.queue.job import JobSpec
from jobs.queue.script import QUEUE_DIR, Script, beside, load, script

CANCEL = script(QUEUE_DIR / "cancel.lua")
NOW = 1_763_764_205.25  # 2025-11-21T22:30:05.250000Z
KEEP_S = 60


def spec(job_id: str = "j1", **options: Any) -> JobSpec:
    return sample_tasks.add.spec(1, 2, job_id=job_id, now=NOW, **options)


def owned(job_id: str) -> JobSpec:
    return sample_tasks.own.spec(job_id=job_id, now=NOW)


def cancel(client: redis.Redis, job_id: str, now: float = NOW) -> str:
    answer: bytes = CANCEL(client, [keys.job(job_id), keys.SCHEDULED_JOBS], [job_id, repr(now), KEEP_S])
    return answer.decode()


def test_enqueuing_creates_the_job_and_puts_it_on_its_queue_in_one_step(redis_client: redis.Redis) -> None:
    assert enqueue(redis_client, spec(), now=NOW)
    after = snapshot(redis_client)
    job = after.pop("rq:job:j1")
    assert (job["status"], job["origin"], job["enqueued_at"]) == ("queued", "default", "2025-11-21T22:30:05.250000Z")
    assert job["data"] == '["sample_tasks.add",null,[1,2],{}]'
    minute = keys.stats("default", int(NOW // 60))
    assert after == {
        "rq:queue:default": ["j1"],
        "rq:queues": {"rq:queue:default"},
        "turnstile:bell:default": ["1"],
        minute: {"enqueued": "1"},
        f"{minute}!ttl": True,
        "turnstile:totals:default": {"enqueued": "1"},
    }


def test_many_jobs_are_created_in_their_order_each_once(redis_client: redis.Redis) -> None:
    assert [new for _id, new in place_many(redis_client, [spec("old"), spec("old")], now=NOW)] == [True, False]
    jobs = [spec("a"), spec("old"), spec("b", queue="other"), spec("a"), spec("c")]
    assert [new for _id, new in place_many(redis_client, jobs, now=NOW)] == [True, False, True, False, True]
    assert redis_client.lrange(keys.queue("default"), 0, -1) == [b"old", b"a", b"c"]
    assert redis_client.lrange(keys.queue("other"), 0, -1) == [b"b"]
    assert redis_client.hget(keys.totals("default"), "enqueued") == b"3"
    before = snapshot(redis_client)
    assert not any(new for _id, new in place_many(redis_client, jobs, now=NOW))
    assert changes(before, snapshot(redis_client)) == {}


@pytest.mark.parametrize("due_at", [None, NOW + 5])
def test_the_same_job_sent_again_is_created_once(redis_client: redis.Redis, due_at: float | None) -> None:
    assert enqueue(redis_client, spec(), now=NOW, due_at=due_at)
    before = snapshot(redis_client)
    assert not enqueue(redis_client, spec(), now=NOW + 1, due_at=due_at)
    assert not enqueue(redis_client, spec(), now=NOW + 1, due_at=NOW if due_at is None else None)
    assert changes(before, snapshot(redis_client)) == {}


def test_a_delayed_job_waits_in_redis_and_on_no_queue(redis_client: redis.Redis) -> None:
    assert enqueue(redis_client, spec(), now=NOW, due_at=NOW + 5.5)
    after = snapshot(redis_client)
    assert after.pop("rq:job:j1")["status"] == "scheduled"
    assert after == {"rq:scheduler:scheduled_jobs": {"j1": NOW + 5.5}, "rq:queues": {"rq:queue:default"}}


def test_the_async_twin_does_the_same(redis_client: redis.Redis, ask: Ask) -> None:
    assert enqueue(redis_client, spec("j1"), now=NOW)
    one = snapshot(redis_client)
    redis_client.flushall()
    assert ask(lambda client: place_async(client, spec("j1"), now=NOW)) == ("j1", True)
    assert changes(one, snapshot(redis_client)) == {}
    assert ask(lambda client: place_async(client, spec("j1"), now=NOW)) == ("j1", False)


@pytest.mark.parametrize(
    "moment",
    [
        "1970-01-01T00:00:00.000000",
        "1999-12-31T23:59:59.999000",
        "2000-02-29T12:00:00.500000",
        "2024-02-29T23:59:59.250000",
        "2025-03-01T00:00:00.125000",
        "2026-12-31T23:59:59.875000",
        "2027-01-01T00:00:00.000000",
        "2100-02-28T23:00:00.000000",
        "2100-03-01T01:00:00.000000",
    ],
)
def test_instants_are_written_as_rq_reads_them(redis_client: redis.Redis, moment: str) -> None:
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    enqueue(redis_client, spec(), now=now)
    written = datetime.fromisoformat(redis_client.hget("rq:job:j1", "enqueued_at").decode()).timestamp()
    assert written == pytest.approx(now, abs=2e-6)


def test_a_bell_is_never_longer_than_eight(redis_client: redis.Redis) -> None:
    for number in range(20):
        enqueue(redis_client, spec(f"j{number}"), now=NOW)
    assert redis_client.llen(keys.bell("default")) == 8


# --- cancel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("due_at", [None, NOW + 5])
def test_cancelling_takes_a_waiting_job_out_of_wherever_it_waits(redis_client: redis.Redis, due_at: float | None) -> None:
    enqueue(redis_client, spec("kept"), now=NOW, due_at=due_at)
    kept = snapshot(redis_client)
    enqueue(redis_client, spec(), now=NOW, due_at=due_at)
    assert cancel(redis_client, "j1") == "cancelled"
    after = snapshot(redis_client)
    assert (after["rq:job:j1"]["status"], after["rq:job:j1!ttl"]) == ("canceled", True)
    assert after["rq:canceled:default"] == {"j1": NOW + KEEP_S}
    for key in ("rq:queue:default", "rq:scheduler:scheduled_jobs", "rq:job:kept"):
        assert after.get(key) == kept.get(key), key


def test_cancelling_takes_out_a_job_that_waits_for_its_next_attempt(redis_client: redis.Redis, hands: Hands) -> None:
    enqueue(redis_client, sample_tasks.fail_later.spec("x", job_id="j1"), now=NOW)
    hands.fail(hands.must_claim("default"), ValueError("x"))
    assert redis_client.zcard(keys.scheduled("default")) == 1
    assert cancel(redis_client, "j1") == "cancelled"
    assert redis_client.zcard(keys.scheduled("default")) == 0


def test_cancelling_again_writes_nothing(redis_client: redis.Redis) -> None:
    enqueue(redis_client, spec(), now=NOW)
    cancel(redis_client, "j1")
    before = snapshot(redis_client)
    assert cancel(redis_client, "j1", NOW + 1) == "canceled"
    assert changes(before, snapshot(redis_client)) == {}


def test_what_cannot_be_cancelled_is_left_alone_and_says_why(redis_client: redis.Redis, hands: Hands) -> None:
    enqueue(redis_client, spec("started"), now=NOW)
    hands.must_claim("default")
    enqueue(redis_client, spec("finished"), now=NOW)
    hands.finish(hands.must_claim("default"))
    enqueue(redis_client, sample_tasks.refuse.spec("no", job_id="failed"), now=NOW)
    hands.work("default")
    enqueue(redis_client, owned("owned"), now=NOW)
    before = snapshot(redis_client)
    assert [cancel(redis_client, name) for name in ("started", "finished", "failed", "owned", "none")] == [
        "started",
        "finished",
        "failed",
        "owned",
        "unknown",
    ]
    assert changes(before, snapshot(redis_client)) == {}


def test_the_list_of_cancelled_jobs_forgets_those_whose_time_is_over(redis_client: redis.Redis) -> None:
    for number, now in enumerate((NOW, NOW + KEEP_S + 1)):
        enqueue(redis_client, spec(f"j{number}"), now=now)
        cancel(redis_client, f"j{number}", now)
    assert redis_client.zrange("rq:canceled:default", 0, -1) == [b"j1"]


# --- purge -----------------------------------------------------------------------------------


def test_purging_deletes_ready_jobs_but_none_that_belongs_to_a_state(redis_client: redis.Redis) -> None:
    for number in range(3):
        enqueue(redis_client, spec(f"j{number}"), now=NOW)
        enqueue(redis_client, owned(f"o{number}"), now=NOW)
    enqueue(redis_client, spec("later"), now=NOW, due_at=NOW + 5)
    assert overview.purge(redis_client, "default") == (3, 3)
    after = snapshot(redis_client)
    assert after["rq:queue:default"] == ["o0", "o1", "o2"]
    assert {key for key in after if key.startswith("rq:job:")} == {"rq:job:o0", "rq:job:o1", "rq:job:o2", "rq:job:later"}
    assert overview.purge(redis_client, "default") == (0, 3)
    assert changes(after, snapshot(redis_client)) == {}


def test_purging_leaves_a_running_job_alone(redis_client: redis.Redis, hands: Hands) -> None:
    enqueue(redis_client, spec("running"), now=NOW)
    claim = hands.must_claim("default")
    enqueue(redis_client, spec("ready"), now=NOW)
    redis_client.rpush(keys.queue("default"), "dangling")
    assert overview.purge(redis_client, "default") == (2, 0)
    assert hands.finish(claim) == 1


# --- scripts ---------------------------------------------------------------------------------


def test_a_script_runs_on_a_server_that_has_never_seen_it(redis_client: redis.Redis, ask: Ask) -> None:
    redis_client.script_flush()
    assert enqueue(redis_client, spec("j1"), now=NOW)
    redis_client.script_flush()
    assert ask(lambda client: place_async(client, spec("j2"), now=NOW)) == ("j2", True)
    redis_client.script_flush()
    purge = beside(overview.__file__, "purge")
    load(redis_client, purge)
    with redis_client.pipeline(transaction=False) as pipeline:
        purge.in_pipeline(pipeline, [keys.queue("default"), keys.held("default")], [10])
        assert pipeline.execute() == [[2, 0]]


def test_every_script_says_what_it_does_with_its_keys_arguments_and_answer() -> None:
    for path in sorted(QUEUE_DIR.parent.glob("*/*.lua")):
        text = path.read_text()
        head = [line for line in text.splitlines() if line.startswith("--") and not line.startswith("--!")]
        assert any(line.startswith(f"-- {path.name}: ") for line in head), path
        if ": library" not in text:
            for word in ("-- KEYS ", "-- RETURNS ", "-- COST "):
                assert any(line.startswith(word) for line in head), (path, word)
        assert Script(path).source


def test_overview_tells_depth_age_and_totals(redis_client: redis.Redis, hands: Hands) -> None:
    now = time.time()
    for number in range(3):
        enqueue(redis_client, spec(f"j{number}"), now=now - 5)
    hands.finish(hands.must_claim("default"))
    hands.must_claim("default")
    overview.pause(redis_client, "default")
    [found] = overview.queues(redis_client, now)
    assert (found.name, found.depth, found.started, found.paused) == ("default", 1, 1, True)
    assert found.oldest_age_s == pytest.approx(5, abs=0.01)
    assert (found.enqueued, found.finished, found.dead) == (3, 1, 0)
    assert found.rate_in > 0
    overview.resume(redis_client, "default")
    assert not overview.queues(redis_client, now)[0].paused
