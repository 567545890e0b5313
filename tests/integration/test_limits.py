"""Limits: what may not start yet is held back, starts in its turn, and no more than may."""

import pytest
import redis
from hands import Hands
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from limited import NOW, TASKS, add, few, free, held, ids, numbered, rated, rated_too, take
from servers import Server
from snapshots import changes, snapshot

from jobs import keys
from jobs.queue import ending, job_store, limits
from jobs.queue.ending import Claim
from jobs.queue.limits import Limits
from jobs.settings import Settings

TOLERANCE_S = 0.1
FULL_S = 0.05


@pytest.fixture(autouse=True)
def _published(redis_client: redis.Redis, settings: Settings) -> None:
    limits.publish(redis_client, TASKS)


# --- rates -----------------------------------------------------------------------------------------


def test_jobs_above_the_rate_are_held_back_and_start_in_their_order(redis_client: redis.Redis) -> None:
    add(redis_client, rated, *numbered("r", 5))
    add(redis_client, free, "f")
    found = take(redis_client, 9)
    assert ids(found) == ["r0", "r1", "f"], "what the tolerance allows, and what has no limit"
    assert found.wait_s == pytest.approx(0.1)
    assert held(redis_client, "limits.rated") == ["r2", "r3", "r4"]
    assert redis_client.hget(keys.job("r2"), "status") == b"queued"
    before = snapshot(redis_client)
    assert take(redis_client, now=NOW + 0.05).wait_s == pytest.approx(0.05)
    assert changes(before, snapshot(redis_client)) == {}, "too early: nothing happens"
    add(redis_client, rated, "r5")
    assert ids(take(redis_client, now=NOW + 0.11)) == ["r2"], "held jobs come before those that came later"
    assert ids(take(redis_client, now=NOW + 0.11)) == []
    assert ids(take(redis_client, 9, now=NOW + 0.45)) == ["r3", "r4"], "time that nobody used is lost but for the tolerance"
    assert ids(take(redis_client, 9, now=NOW + 0.65)) == ["r5"]
    assert not redis_client.exists(keys.held("default"), keys.held_jobs("default", "limits.rated"))


def test_each_task_has_its_own_rate_over_all_queues_and_none_starves_the_other(redis_client: redis.Redis) -> None:
    add(redis_client, rated, *numbered("a", 3))
    add(redis_client, rated, "b0", queue="other")
    add(redis_client, rated_too, *numbered("t", 3))
    assert ids(take(redis_client, 9, queues=("default", "other"))) == ["a0", "a1", "t0", "t1"]
    at = NOW + 0.11
    assert sorted(ids(take(redis_client, now=at)) + ids(take(redis_client, now=at))) == ["a2", "t2"]
    assert ids(take(redis_client, now=at, queues=("other",))) == []
    assert ids(take(redis_client, now=NOW + 0.21, queues=("other",))) == ["b0"]


def test_a_long_backlog_of_held_jobs_keeps_no_other_job_waiting(redis_client: redis.Redis) -> None:
    add(redis_client, rated, *numbered("r", 450))
    add(redis_client, free, "f")
    assert len(ids(take(redis_client, 2))) == 2
    waits = []
    while not (found := take(redis_client)).jobs:
        waits.append(found.wait_s)
    assert (ids(found), waits) == (["f"], [0.0, 0.0]), "200 a call are held back, and the next call is made at once"
    assert len(held(redis_client, "limits.rated")) == 448


@hypothesis_settings(max_examples=60)
@given(
    looks=st.lists(st.tuples(st.floats(0, 0.6), st.integers(1, 4)), max_size=40), rate=st.sampled_from(["10/s", "3/s", "300/m"])
)
def test_the_rate_follows_its_model_at_whatever_times_it_is_looked_at(
    own_client: redis.Redis, looks: list[tuple[float, int]], rate: str
) -> None:
    own_client.flushall()
    own_client.hset(keys.LIMITS, "limits.rated", f"{rate}:")
    add(own_client, rated, *numbered("r", 200))
    interval, due, now = {"10/s": 1 / 10, "3/s": 1 / 3, "300/m": 60 / 300}[rate], 0.0, NOW
    starts: list[float] = []
    for pause_s, n in looks:
        now += pause_s
        allowed = 0
        while allowed < n and due - TOLERANCE_S <= now:
            due, allowed = max(now, due) + interval, allowed + 1
        found = ids(take(own_client, n, now=now))
        assert found == numbered("r", len(starts) + allowed)[len(starts) :]
        starts += [now] * allowed
    for first, start in enumerate(starts):
        for count, later in enumerate(starts[first:], 1):
            assert count <= (later - start + TOLERANCE_S) / interval + 1.01


@pytest.fixture(scope="module")
def own_client(redis_server: Server) -> redis.Redis:
    """A client that lives through all examples of a property."""
    return redis.Redis.from_url(redis_server.url)


# --- how many at once ------------------------------------------------------------------------------


def test_no_more_jobs_run_at_once_than_may_and_the_next_follows_an_ending(redis_client: redis.Redis, hands: Hands) -> None:
    add(redis_client, few, *numbered("j", 4))
    first = take(redis_client).jobs[0]
    second = take(redis_client, now=NOW + 0.01).jobs[0]
    found = take(redis_client, now=NOW + 0.02)
    assert (ids(found), held(redis_client, "limits.few")) == ([], ["j2", "j3"])
    assert found.wait_s == pytest.approx(FULL_S, abs=1e-4)
    hands.finish(first)
    add(redis_client, few, "j4")
    assert ids(take(redis_client, now=NOW + 0.03)) == [], "a job that came later does not pass those that are held"
    assert ids(take(redis_client, now=NOW + 0.08)) == ["j2"]
    assert ids(take(redis_client, now=NOW + 0.2)) == []
    hands.fail(second, ValueError("no"))
    hands.reclaim("default")
    assert redis_client.lrange(keys.queue("default"), 0, -1) == [b"j2"]
    assert ids(take(redis_client, now=NOW + 0.3)) == ["j3"], "a lost lease, a failure and an ending free the slots alike"
    assert ids(take(redis_client, now=NOW + 0.4)) == ["j4"]
    assert ids(take(redis_client, now=NOW + 0.5)) == []
    assert held(redis_client, "limits.few") == ["j2"]
    assert redis_client.zcard(keys.running("limits.few")) == 2


def test_one_claim_takes_no_more_jobs_of_a_task_than_may_run_at_once(redis_client: redis.Redis) -> None:
    add(redis_client, few, *numbered("j", 3))
    add(redis_client, free, "f")
    found = take(redis_client, 9)
    assert ids(found) == ["j0", "j1", "f"]
    assert found.wait_s == pytest.approx(FULL_S, abs=1e-4)
    assert ids(take(redis_client, 9, now=NOW + 0.01)) == []


def test_a_claim_fills_the_slots_that_are_left_and_those_whose_jobs_have_ended(redis_client: redis.Redis, hands: Hands) -> None:
    limits.override(redis_client, "limits.few", Limits(max_concurrent=3))
    add(redis_client, few, *numbered("j", 6))
    first = take(redis_client, 2).jobs
    hands.finish(first[0])
    assert ids(take(redis_client, 9, now=NOW + 0.01)) == ["j2", "j3"]
    hands.finish(first[1])
    assert ids(take(redis_client, 9, now=NOW + 0.1)) == ["j4"]
    assert redis_client.zcard(keys.running("limits.few")) == 3


def test_several_queues_share_the_slots_of_a_task(redis_client: redis.Redis) -> None:
    for queue in ("a", "b", "c"):
        add(redis_client, few, queue, queue=queue)
    assert [ids(take(redis_client, queues=(queue,))) for queue in ("a", "b", "c")] == [["a"], ["b"], []]


@hypothesis_settings(max_examples=60)
@given(
    moves=st.lists(
        st.tuples(st.sampled_from(["claim", "claim", "look", "finish", "die", "cancel"]), st.integers(0, 9)), max_size=30
    )
)
def test_whatever_happens_every_job_is_in_one_place_and_no_task_runs_more_than_it_may(
    own_client: redis.Redis, moves: list[tuple[str, int]]
) -> None:
    own_client.flushall()
    limits.publish(own_client, TASKS)
    for number in range(4):
        for which in (few, rated, free):
            add(own_client, which, f"{which.name.rpartition('.')[2]}{number}")
    now, claimed, ended = NOW, list[Claim](), set[str]()
    for what, number in moves:
        now += 0.03
        if what in ("claim", "look"):
            claimed += take(own_client, 1 if what == "claim" else 3, now=now).jobs
        elif what == "cancel":
            job_id = f"{('few', 'rated')[number % 2]}{number % 4}"
            if own_client.hget(keys.job(job_id), "status") == b"queued":
                job_store.cancel(own_client, job_id, now)
                ended.add(job_id)
        elif claimed:
            claim = claimed.pop(number % len(claimed))
            if what == "finish":
                ending.finish(own_client, claim, now, b"null", 500)
                ended.add(claim.id)
            else:
                ending.release(own_client, claim, now)
        waiting = [job_id.decode() for job_id in own_client.lrange(keys.queue("default"), 0, -1)]
        behind = [job_id for which in (few, rated) for job_id in held(own_client, which.name)]
        running = [claim.id for claim in claimed]
        assert sorted([*waiting, *behind, *running, *ended]) == sorted(
            f"{name}{n}" for name in ("few", "rated", "free") for n in range(4)
        )
        assert sorted(member.partition(b":")[0].decode() for member in own_client.zrange(keys.wip("default"), 0, -1)) == sorted(
            running
        )
        assert sum(job_id.startswith("few") for job_id in running) <= 2
