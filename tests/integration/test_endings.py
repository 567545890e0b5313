"""How a claimed job ends: one fenced write each, with every structure before and after; repeated, it changes nothing."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import sample_tasks
from hands import LEASE_S, Hands
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer
from snapshots import Snapshot, changes, snapshot

from jobs import keys
from jobs.errors import Permanent, RetryAfter
from jobs.queue import attempts, ending
from jobs.queue.calling import enqueue
from jobs.queue.ending import Claim, Written
from jobs.queue.outcome import encode_result

NOW = 1_763_764_205.0
AT = "2025-11-21T22:30:05.000000Z"


@pytest.fixture
def claim(redis_client: redis.Redis, hands: Hands) -> Claim:
    enqueue(redis_client, sample_tasks.fail_later.spec("x", job_id="j1", now=NOW), now=NOW)
    return hands.must_claim("default", now=NOW, execution="e1")


def rest(before: Snapshot, after: Snapshot) -> dict[str, tuple[Any, Any]]:
    """What changed but for the job's own hash and the counters of the minute."""
    return {key: pair for key, pair in changes(before, after).items() if key != "rq:job:j1" and ":stats:" not in key}


def finish(claim: Claim, client: redis.Redis, ttl_s: int = 500) -> Written:
    return ending.finish(client, claim, NOW + 2, encode_result({"sum": 3}), ttl_s)


def test_finishing_leaves_the_result_for_its_time_and_takes_the_job_out_of_work(redis_client: redis.Redis, claim: Claim) -> None:
    before = snapshot(redis_client)
    assert finish(claim, redis_client) is Written.NOW
    after = snapshot(redis_client)
    job = after["rq:job:j1"]
    assert {**before["rq:job:j1"], "status": "finished", "ended_at": "2025-11-21T22:30:07.000000Z", "acked": "e1"} == job
    found = rest(before, after)
    [result] = found.pop("rq:results:j1")[1]
    assert json.loads(base64.b64decode(result.pop("return_value"))) == {"sum": 3}
    assert result == {"type": "1", "worker_name": "hands"}
    assert found == {
        "rq:wip:default": ({"j1:e1": NOW + LEASE_S}, None),
        "rq:finished:default": (None, {"j1": NOW + 502}),
        "rq:job:j1!ttl": (None, True),
        "rq:results:j1!ttl": (None, True),
        "turnstile:totals:default": ({"enqueued": "1"}, {"enqueued": "1", "finished": "1"}),
    }
    assert 490 < redis_client.ttl("rq:job:j1") <= 500


def test_a_result_can_be_read_with_rq(redis_client: redis.Redis, claim: Claim) -> None:
    finish(claim, redis_client)
    job = Job.fetch("j1", connection=redis_client, serializer=JSONSerializer)
    assert (job.get_status().value, job.return_value()) == ("finished", {"sum": 3})
    assert Queue("default", connection=redis_client, serializer=JSONSerializer).finished_job_registry.get_job_ids(
        cleanup=False
    ) == ["j1"]


def test_a_result_that_nobody_wants_leaves_nothing(redis_client: redis.Redis, claim: Claim) -> None:
    assert finish(claim, redis_client, ttl_s=0) is Written.NOW
    after = snapshot(redis_client)
    assert not any("j1" in key for key in after)
    assert "rq:wip:default" not in after
    assert finish(claim, redis_client, ttl_s=0) is not Written.NOW
    assert changes(after, snapshot(redis_client)) == {}


def test_a_result_that_is_wanted_for_ever_never_expires(redis_client: redis.Redis, claim: Claim) -> None:
    assert finish(claim, redis_client, ttl_s=-1) is Written.NOW
    after = snapshot(redis_client)
    assert after["rq:finished:default"] == {"j1": float("inf")}
    assert "rq:job:j1!ttl" not in after
    assert "rq:results:j1!ttl" not in after


def test_the_list_of_finished_jobs_forgets_what_has_expired(redis_client: redis.Redis, claim: Claim) -> None:
    redis_client.zadd(keys.finished("default"), {"old": NOW + 1, "fresh": NOW + 9})
    finish(claim, redis_client)
    assert set(snapshot(redis_client)["rq:finished:default"]) == {"fresh", "j1"}


@pytest.mark.parametrize("how", ["finish", "expire"])
def test_one_ending_takes_a_bounded_number_of_expired_jobs_out_of_the_list(
    redis_client: redis.Redis, claim: Claim, how: str
) -> None:
    key = keys.finished("default") if how == "finish" else keys.canceled("default")
    redis_client.zadd(key, {f"old{number}": NOW + 1 for number in range(1_000)})
    if how == "finish":
        finish(claim, redis_client)
    else:
        ending.expire(redis_client, claim, NOW + 2)
    assert 800 < redis_client.zcard(key) < 1_000


def test_a_failed_attempt_waits_for_the_next_one_in_redis(redis_client: redis.Redis, hands: Hands, claim: Claim) -> None:
    before = snapshot(redis_client)
    assert hands.fail(claim, ValueError("no such street"), uniform=0.5, now=NOW + 2) is Written.NOW
    after = snapshot(redis_client)
    job = dict(after["rq:job:j1"])
    [attempt] = attempts.read(job.pop("attempts"))
    assert (attempt.attempt, attempt.worker, attempt.error_type, attempt.error) == (1, "hands", "ValueError", "no such street")
    assert (attempt.started_at, attempt.ended_at) == (NOW, NOW + 2)
    written = {
        "status": "scheduled",
        "failures": "1",
        "ended_at": "2025-11-21T22:30:07.000000Z",
        "acked": "e1",
        "backoff_s": "50.0",
    }
    assert job == {**before["rq:job:j1"], **written}
    assert rest(before, after) == {
        "rq:wip:default": ({"j1:e1": NOW + LEASE_S}, None),
        "rq:scheduled:default": (None, {"j1": NOW + 2 + 50}),
        "turnstile:totals:default": ({"enqueued": "1"}, {"enqueued": "1", "retried": "1"}),
    }


def test_an_attempt_that_is_due_at_once_goes_straight_to_its_queue(redis_client: redis.Redis, hands: Hands, claim: Claim) -> None:
    assert hands.fail(claim, ValueError("x"), uniform=0.0) is Written.NOW
    after = snapshot(redis_client)
    assert (after["rq:queue:default"], after.get("rq:scheduled:default")) == (["j1"], None)
    assert hands.must_claim("default").attempt == 2


def test_the_time_that_an_error_asks_for_is_kept(redis_client: redis.Redis, hands: Hands, claim: Claim) -> None:
    assert hands.fail(claim, RetryAfter(30, "busy"), uniform=0.0, now=NOW) is Written.NOW
    assert snapshot(redis_client)["rq:scheduled:default"] == {"j1": NOW + 30}


def test_a_dead_letter_stands_in_rqs_registry_and_in_ours_and_never_expires(
    redis_client: redis.Redis, hands: Hands, claim: Claim
) -> None:
    before = snapshot(redis_client)
    assert hands.fail(claim, Permanent("no such street"), now=NOW + 2) is Written.NOW
    after = snapshot(redis_client)
    job = after["rq:job:j1"]
    assert (job["status"], job["failures"], job["died_at"]) == ("failed", "1", repr(NOW + 2))
    assert (job["error_type"], job["error"]) == ("Permanent", "no such street")
    assert job["group"] == attempts.fingerprint("sample.fail_later", "Permanent", "no such street")
    assert job["exc_info"].rstrip().endswith("Permanent: no such street")
    found = rest(before, after)
    [result] = found.pop("rq:results:j1")[1]
    assert (result["type"], result["worker_name"], result["execution_id"]) == ("2", "hands", "e1")
    assert found == {
        "rq:wip:default": ({"j1:e1": NOW + LEASE_S}, None),
        "rq:failed:default": (None, {"j1": float("inf")}),
        "turnstile:dead": (None, {"j1": NOW + 2}),
        f"turnstile:dead:group:{job['group']}": (None, {"j1": NOW + 2}),
        "turnstile:dead:groups": (None, {job["group"]: "sample.fail_later\nPermanent\nno such street"}),
        "turnstile:dead:sizes": (None, {job["group"]: 1}),
        "turnstile:totals:default": ({"enqueued": "1"}, {"enqueued": "1", "dead": "1"}),
    }


def test_a_job_that_was_to_expire_does_not_do_so_as_a_dead_letter(redis_client: redis.Redis, hands: Hands, claim: Claim) -> None:
    redis_client.expire("rq:job:j1", 500)
    redis_client.xadd("rq:results:j1", {"type": 1})
    redis_client.expire("rq:results:j1", 500)
    hands.fail(claim, Permanent("no such street"))
    assert not {"rq:job:j1!ttl", "rq:results:j1!ttl"} & set(snapshot(redis_client))


def test_a_dead_letter_can_be_read_with_rq(redis_client: redis.Redis, hands: Hands, claim: Claim) -> None:
    hands.fail(claim, Permanent("no such street"))
    queue = Queue("default", connection=redis_client, serializer=JSONSerializer)
    assert queue.failed_job_registry.get_job_ids(cleanup=True) == ["j1"]
    job = Job.fetch("j1", connection=redis_client, serializer=JSONSerializer)
    latest = job.latest_result()
    assert latest is not None and "no such street" in (latest.exc_string or "")
    assert job.get_status().value == "failed"


def test_the_last_attempt_goes_to_the_dead_letters_with_every_error_on_it(redis_client: redis.Redis, hands: Hands) -> None:
    enqueue(redis_client, sample_tasks.fail.spec("x", job_id="j1"), now=NOW)
    for number in (1, 2, 3):
        claim = hands.must_claim("default")
        assert claim.attempt == number
        assert hands.fail(claim, ValueError(f"no {number}")) is Written.NOW
    assert hands.claim("default") is None
    job = snapshot(redis_client)["rq:job:j1"]
    assert [(attempt.attempt, attempt.error) for attempt in attempts.read(job["attempts"])] == [
        (1, "no 1"),
        (2, "no 2"),
        (3, "no 3"),
    ]
    assert (job["status"], job["failures"]) == ("failed", "3")


def test_handing_back_burns_no_attempt_and_the_job_is_the_next_to_be_claimed(
    redis_client: redis.Redis, hands: Hands, claim: Claim
) -> None:
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="j2"), now=NOW)
    before = snapshot(redis_client)
    assert ending.release(redis_client, claim, NOW + 1) is Written.NOW
    after = snapshot(redis_client)
    job = after["rq:job:j1"]
    assert (job["status"], job.get("failures"), job.get("worker_name"), job.get("started_at")) == ("queued", None, None, None)
    found = rest(before, after)
    assert found["rq:queue:default"] == (["j2"], ["j1", "j2"])
    assert found["rq:wip:default"] == ({"j1:e1": NOW + LEASE_S}, None)
    again = hands.must_claim("default")
    assert (again.id, again.attempt) == ("j1", 1)


ENDINGS: dict[str, Callable[[Hands, Claim], Written]] = {
    "finish": lambda hands, claim: hands.finish(claim, 3),
    "retry": lambda hands, claim: hands.fail(claim, ValueError("x"), uniform=0.9),
    "retry at once": lambda hands, claim: hands.fail(claim, ValueError("x"), uniform=0.0),
    "bury": lambda hands, claim: hands.fail(claim, Permanent("x")),
    "release": lambda hands, claim: ending.release(hands.client, claim, time.time()),
}


@pytest.mark.parametrize("second", ENDINGS)
@pytest.mark.parametrize("first", ENDINGS)
def test_an_execution_ends_its_job_once_whatever_it_says_later(
    redis_client: redis.Redis, hands: Hands, claim: Claim, first: str, second: str
) -> None:
    assert ENDINGS[first](hands, claim) is Written.NOW
    before = snapshot(redis_client)
    assert ENDINGS[second](hands, claim) is Written.BEFORE
    assert changes(before, snapshot(redis_client)) == {}


@pytest.mark.parametrize("how", ENDINGS)
def test_a_job_that_was_deleted_while_it_ran_is_not_brought_back(
    redis_client: redis.Redis, hands: Hands, claim: Claim, how: str
) -> None:
    redis_client.delete("rq:job:j1")
    before = snapshot(redis_client)
    assert ENDINGS[how](hands, claim) is Written.LEASE_LOST
    assert changes(before, snapshot(redis_client)) == {"rq:wip:default": (before["rq:wip:default"], None)}


def test_what_a_worker_did_is_counted_on_it_while_it_lives(redis_client: redis.Redis, hands: Hands) -> None:
    redis_client.hset(keys.worker("hands"), mapping={"birth": "x"})
    for _ in range(2):
        enqueue(redis_client, sample_tasks.fail.spec("x"), now=NOW)
        hands.finish(hands.must_claim("default", now=time.time() - 2))
    enqueue(redis_client, sample_tasks.fail.spec("x"), now=NOW)
    hands.fail(hands.must_claim("default"), ValueError("x"))
    hands.fail(hands.must_claim("default"), Permanent("x"))
    worker = snapshot(redis_client)[keys.worker("hands")]
    assert (worker["successful_job_count"], worker["failed_job_count"]) == ("2", "2")
    assert 4 <= float(worker["total_working_time"]) < 8


@pytest.mark.parametrize("kind", ["object", "surrogate", "loop"])
def test_a_result_that_is_no_json_is_refused_with_the_reason(kind: str) -> None:
    with pytest.raises(TypeError) as caught:
        encode_result(sample_tasks.give(kind))
    assert str(caught.value)


@pytest.mark.parametrize("kind", ["none", "nested", "huge"])
def test_a_result_survives_the_way_there_and_back(kind: str) -> None:
    value = sample_tasks.give(kind)
    assert json.loads(encode_result(value)) == value
