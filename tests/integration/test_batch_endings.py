"""Many jobs whose ends share a script: each is answered for itself, and ends as it would have alone."""

import json
import time
from base64 import b64decode
from collections.abc import Sequence

import pytest
import redis
import sample_tasks
from hands import LEASE_S, Hands
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rq.job import Job
from rq.serializers import JSONSerializer
from servers import Server
from snapshots import Snapshot, changes, snapshot

from jobs import keys
from jobs.queue import claiming, ending
from jobs.queue.attempts import Attempt
from jobs.queue.calling import enqueue, place
from jobs.queue.ending import Claim, Written
from jobs.queue.outcome import Outcome, What, encode_result
from jobs.queue.script import exchange

NOW = 1_763_764_205.0
LOST, DONE, BEFORE = Written.LEASE_LOST, Written.NOW, Written.BEFORE


def claimed(client: redis.Redis, *ids: str, queue: str = "default", prefix: str = "e") -> list[Claim]:
    for job_id in ids:
        enqueue(client, sample_tasks.add.spec(1, 2, job_id=job_id, now=NOW, queue=queue), now=NOW)
    executions = [f"{prefix}{number:x}" for number in range(len(ids))]
    return claiming.claim(client, [queue], "w", LEASE_S, now=NOW, executions=executions).jobs


def finished(result: object = None, ttl_s: int = 500) -> Outcome:
    return Outcome("finished", "sample.add", NOW + 2, encode_result(result), ttl_s)


def finish(client: redis.Redis, claims: Sequence[Claim], *outcomes: Outcome) -> list[Written]:
    each = outcomes if len(outcomes) == len(claims) else outcomes * len(claims)
    [answer] = exchange(client, [ending.finishing(list(zip(claims, each, strict=True)))])
    assert not isinstance(answer, Exception), answer
    return [Written(how) for how in answer]


def result_of(client: redis.Redis, job_id: str) -> list[object]:
    entries = [entry for _id, entry in client.xrange(keys.results(job_id))]
    return [json.loads(b64decode(entry[b"return_value"])) if b"return_value" in entry else None for entry in entries]


def test_each_job_of_a_batch_is_answered_for_itself(redis_client: redis.Redis) -> None:
    claims = claimed(redis_client, "a", "b", "gone", "taken", "before", "off")
    redis_client.delete(keys.job("gone"))
    redis_client.zrem(keys.wip("default"), "taken:e3")
    finish(redis_client, [claims[4]], finished())
    outcomes = [finished(1), finished(2), finished(), finished(), finished(), finished(3, ttl_s=0)]
    assert finish(redis_client, claims, *outcomes) == [DONE, DONE, LOST, LOST, BEFORE, DONE]
    after = snapshot(redis_client)
    assert "rq:wip:default" not in after
    assert {key for key in after if key.startswith("rq:job:") and "!" not in key} == {
        "rq:job:a", "rq:job:b", "rq:job:taken", "rq:job:before",
    }  # fmt: skip
    assert (after["rq:job:taken"]["status"], after["rq:job:a"]["status"]) == ("started", "finished")
    assert after["rq:finished:default"] == {"a": NOW + 502, "b": NOW + 502, "before": NOW + 502}
    assert after["turnstile:totals:default"]["finished"] == "4"
    assert finish(redis_client, claims[:2], finished(1), finished(2)) == [BEFORE, BEFORE]
    assert changes(after, snapshot(redis_client)) == {}


@hypothesis_settings(max_examples=60)
@given(
    jobs=st.lists(
        st.tuples(st.sampled_from(["", "gone", "taken", "streamed", "crashed"]), st.integers(0, 2), st.sampled_from([0, 500, -1]))
    )
)
def test_a_batch_leaves_what_its_jobs_would_have_left_one_after_the_other(
    own_client: redis.Redis, jobs: list[tuple[str, int, int]]
) -> None:
    def play(together: bool) -> tuple[list[Written], Snapshot]:
        own_client.flushall()
        claims = claimed(own_client, *(f"j{number}" for number in range(len(jobs))))
        ready = []
        for claim, (trouble, result, ttl_s) in zip(claims, jobs, strict=True):
            if trouble == "gone":
                own_client.delete(keys.job(claim.id))
            elif trouble == "taken":
                own_client.zrem(keys.wip("default"), claim.member)
            elif trouble == "streamed":
                own_client.xadd(keys.results(claim.id), {"type": 2})
            elif trouble == "crashed":
                own_client.hset(keys.job(claim.id), "crashes", 1)
                claim = replace(claim, hash={**claim.hash, b"crashes": b"1"})
            ready.append((claim, finished(result or None, ttl_s)))
        if together:
            answers = finish(own_client, [claim for claim, _ in ready], *(outcome for _, outcome in ready)) if ready else []
        else:
            answers = [ending.write(own_client, claim, outcome) for claim, outcome in ready]
        return answers, {key: value for key, value in snapshot(own_client).items() if ":stats:" not in key}

    alone, together = play(together=False), play(together=True)
    assert together[0] == alone[0]
    assert changes(alone[1], together[1]) == {}


@pytest.fixture(scope="module")
def own_client(redis_server: Server) -> redis.Redis:
    """A client that lives through all examples of a property."""
    return redis.Redis.from_url(redis_server.url)


@pytest.mark.parametrize("ttl_s", [0, 500])
def test_a_job_that_is_twice_in_a_batch_ends_once(redis_client: redis.Redis, ttl_s: int) -> None:
    [claim] = claimed(redis_client, "a")
    stale = replace(claim, execution="old")
    assert finish(redis_client, [stale, claim, claim], finished(1, ttl_s)) == [LOST, DONE, BEFORE]
    assert redis_client.hget(keys.totals("default"), "finished") == b"1"
    assert result_of(redis_client, "a") == ([1] if ttl_s else [])


def test_a_job_with_two_leases_keeps_each_result_to_itself(redis_client: redis.Redis) -> None:
    claims = claimed(redis_client, "a", "b")
    other = replace(claims[0], execution="e9")
    redis_client.zadd(keys.wip("default"), {other.member: NOW + 9})
    assert finish(redis_client, [claims[0], other, claims[1]], finished(1), finished(2), finished(2)) == [DONE] * 3
    assert (result_of(redis_client, "a"), result_of(redis_client, "b")) == ([1, 2], [2])


@pytest.mark.parametrize("forbidden", ["", "-restore", "-dump", "-restore -dump"])
def test_results_are_kept_alike_where_commands_are_forbidden(
    redis_client: redis.Redis, redis_server: Server, forbidden: str
) -> None:
    redis_client.execute_command("ACL", "SETUSER", "kept-short", "on", ">pw", "~*", "&*", "+@all", *forbidden.split())
    try:
        claims = claimed(redis_client, "new", "same", "other", "again", "ever")
        redis_client.xadd(keys.results("again"), {"type": 2})
        with redis.Redis.from_url(redis_server.url, username="kept-short", password="pw") as client:
            outcomes = [finished(7), finished(7), finished(8), finished(7), finished(7, -1)]
            assert finish(client, claims, *outcomes) == [DONE] * 5
    finally:
        redis_client.execute_command("ACL", "DELUSER", "kept-short")
    found = {job_id: result_of(redis_client, job_id) for job_id in ("new", "same", "other", "again", "ever")}
    assert found == {"new": [7], "same": [7], "other": [8], "again": [None, 7], "ever": [7]}
    assert [0 < redis_client.ttl(keys.results(name)) <= 500 for name in found] == [True, True, True, True, False]
    read = Job.fetch("same", connection=redis_client, serializer=JSONSerializer).latest_result()
    assert read is not None and (read.return_value, read.worker_name, read.execution_id) == (7, "w", None)


def test_equal_results_take_no_more_memory_than_they_hold(redis_client: redis.Redis) -> None:
    claims = claimed(redis_client, *(f"j{number}" for number in range(20)))
    finish(redis_client, claims, *(finished(number % 3) for number in range(20)))
    assert max(redis_client.memory_usage(keys.results(claim.id)) for claim in claims) < 500


def test_unique_jobs_of_a_batch_free_their_own_locks(redis_client: redis.Redis) -> None:
    options = sample_tasks.add.options(unique=True).defaults
    specs = [sample_tasks.add.build(options, (number, 0), {}, now=NOW) for number in range(3)]
    ids = [place(redis_client, spec, now=NOW)[0] for spec in specs]
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="plain", now=NOW), now=NOW)
    claims = claiming.claim(redis_client, ["default"], "w", LEASE_S, now=NOW, executions=["x", "y", "z", "p"]).jobs
    del claims[1]
    assert finish(redis_client, claims, finished()) == [DONE] * 3
    [lock] = redis_client.keys("turnstile:unique:*")
    assert redis_client.get(lock) == ids[1].encode()


def test_a_full_memory_refuses_no_end_of_a_batch(redis_client: redis.Redis) -> None:
    claims = claimed(redis_client, "a", "b", "c")
    redis_client.config_set("maxmemory", 1)
    try:
        assert finish(redis_client, claims, finished(1), finished(1), finished(2, ttl_s=0)) == [DONE] * 3
    finally:
        redis_client.config_set("maxmemory", 0)
    assert result_of(redis_client, "b") == [1]


def test_a_batch_that_breaks_in_the_middle_loses_no_job(redis_client: redis.Redis) -> None:
    claims = claimed(redis_client, "a", "odd", "b")
    redis_client.set(keys.results("odd"), "no stream")
    [answer] = exchange(redis_client, [ending.finishing([(claim, finished(claim.id)) for claim in claims])])
    assert isinstance(answer, redis.exceptions.ResponseError)
    assert redis_client.zcard(keys.wip("default")) == 3, "each can still be written alone, or is reclaimed"
    assert [ending.write(redis_client, claim, finished()) for claim in (claims[0], claims[2])] == [DONE, DONE]


# --- any one end -----------------------------------------------------------------------------------


FAILED = Attempt(1, NOW, NOW + 2, "w", "ValueError", "no")


@pytest.mark.parametrize(
    ("what", "status", "place"),
    [
        ("finished", b"finished", "rq:finished:default"),
        ("retry", b"scheduled", "rq:scheduled:default"),
        ("deferred", b"scheduled", "rq:scheduled:default"),
        ("dead", b"failed", "rq:failed:default"),
        ("handed back", b"queued", "rq:queue:default"),
        ("expired", b"canceled", "rq:canceled:default"),
        ("crashed", b"started", "rq:wip:default"),
    ],
)
def test_every_outcome_is_written_once(redis_client: redis.Redis, what: What, status: bytes, place: str) -> None:
    [claim] = claimed(redis_client, "a")
    failed = FAILED if what in ("retry", "dead") else None
    outcome = Outcome(what, "sample.add", NOW + 2, b"3", 500, failed, 5.0, "")
    assert ending.write(redis_client, claim, outcome) is DONE
    after = snapshot(redis_client)
    assert (redis_client.hget(keys.job("a"), "status"), place in after) == (status, True)
    assert ending.write(redis_client, claim, outcome) is (DONE if what == "crashed" else BEFORE)
    assert changes(after, snapshot(redis_client)) == {}
    redis_client.hset(keys.job("a"), "acked", "somebody else")
    redis_client.delete(keys.wip("default"))
    assert ending.write(redis_client, claim, outcome) is LOST


def test_the_lease_of_a_crashed_job_ends_at_once_and_the_crash_is_counted(redis_client: redis.Redis, hands: Hands) -> None:
    [claim] = claimed(redis_client, "a")
    ending.write(redis_client, claim, Outcome("crashed", "", NOW + 2))
    assert hands.reclaim("default", now=NOW + 2) == (["a"], [], 0)
    assert redis_client.hget(keys.job("a"), "crashes") == b"1"


# --- handing back ----------------------------------------------------------------------------------


def test_jobs_that_are_handed_back_keep_their_order_in_front_of_the_others(redis_client: redis.Redis) -> None:
    claims = claimed(redis_client, "a", "b", "c")
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="later", now=NOW), now=NOW)
    redis_client.zrem(keys.wip("default"), claims[1].member)
    assert ending.release_all(redis_client, claims, NOW + 1) == [DONE, LOST, DONE]
    assert ending.release_all(redis_client, claims, NOW + 1) == [BEFORE, LOST, BEFORE]
    assert redis_client.lrange(keys.queue("default"), 0, -1) == [b"a", b"c", b"later"]
    assert ending.release_all(redis_client, [], NOW) == []


def test_what_a_claim_took_whose_answer_was_lost_comes_back_and_nothing_else(redis_client: redis.Redis) -> None:
    mine, other = "0123456789ab-", "ba9876543210-"
    ids = [f"j{number:02}" for number in range(20, 0, -1)]
    lost = claimed(redis_client, *ids, prefix=mine)
    high = claimed(redis_client, "high", queue="default.high", prefix=f"{mine}f")
    theirs = claimed(redis_client, "theirs", prefix=other)
    held = {lost[0].member, lost[7].member}
    assert ending.hand_back_lost(redis_client, ["default"], mine, held, time.time()) == 19
    assert ending.hand_back_lost(redis_client, ["default"], mine, held, time.time()) == 0
    kept = {*held, theirs[0].member}
    assert {member.decode() for member in redis_client.zrange(keys.wip("default"), 0, -1)} == kept
    assert redis_client.lrange(keys.queue("default.high"), 0, -1) == [high[0].id.encode()]
    back = [job_id.decode() for job_id in redis_client.lrange(keys.queue("default"), 0, -1)]
    assert back == [job_id for job_id in ids if job_id not in (ids[0], ids[7])]
    job = redis_client.hgetall(keys.job(ids[3]))
    assert (job[b"status"], b"crashes" in job, b"failures" in job) == (b"queued", False, False)
