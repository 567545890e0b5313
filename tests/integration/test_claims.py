"""Claims, leases and their loss: at every moment a job is in exactly one place, and one worker at most may end it."""

import time
from typing import Any

import pytest
import redis
import sample_tasks
from hands import LEASE_S, Hands
from snapshots import Snapshot, changes, snapshot

from jobs import keys
from jobs.queue import claiming, ending, overview
from jobs.queue.calling import enqueue
from jobs.queue.ending import Written
from jobs.queue.script import QUEUE_DIR, script

EXTEND = script(QUEUE_DIR / "extend.lua")
NOW = 1_763_764_205.0


@pytest.fixture(autouse=True)
def _two_jobs(redis_client: redis.Redis) -> None:
    for job_id in ("j1", "j2"):
        enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id=job_id, now=NOW), now=NOW)


def extend(client: redis.Redis, until: float, *members: str) -> list[str]:
    return [member.decode() for member in EXTEND(client, [keys.wip("default")], [repr(until), *members])]


def moved(client: redis.Redis, before: Snapshot) -> dict[str, Any]:
    """What changed, without the counters of the present minute."""
    return {key: value for key, value in changes(before, snapshot(client)).items() if not key.startswith("turnstile:stats:")}


# --- claim -----------------------------------------------------------------------------------


def test_a_claim_moves_the_first_job_from_its_queue_under_a_lease(redis_client: redis.Redis, hands: Hands) -> None:
    before = snapshot(redis_client)
    claim = hands.must_claim("default", now=NOW, execution="e1")
    assert (claim.id, claim.execution, claim.attempt, claim.call().args) == ("j1", "e1", 1, (1, 2))
    found = moved(redis_client, before)
    was, now_is = found.pop("rq:job:j1")
    assert found == {"rq:queue:default": (["j1", "j2"], ["j2"]), "rq:wip:default": (None, {"j1:e1": NOW + LEASE_S})}
    at = "2025-11-21T22:30:05.000000Z"
    written = {"status": "started", "started_at": at, "last_heartbeat": at, "worker_name": "hands"}
    assert now_is == {**was, **written}


def test_claims_follow_the_order_of_enqueuing(hands: Hands) -> None:
    assert [hands.must_claim("default").id, hands.must_claim("default").id, hands.claim("default")] == ["j1", "j2", None]


def test_several_jobs_are_claimed_at_once_each_with_a_fence_of_its_own(redis_client: redis.Redis) -> None:
    found = claiming.claim(redis_client, ["default"], "w", LEASE_S, now=NOW, executions=["e1", "e2", "e3"])
    assert [(claim.id, claim.execution) for claim in found.jobs] == [("j1", "e1"), ("j2", "e2")]
    assert snapshot(redis_client)["rq:wip:default"] == {"j1:e1": NOW + LEASE_S, "j2:e2": NOW + LEASE_S}


def test_an_empty_queue_gives_nothing_and_changes_nothing(redis_client: redis.Redis, hands: Hands) -> None:
    before = snapshot(redis_client)
    assert hands.claim("other") is None
    assert changes(before, snapshot(redis_client)) == {}


@pytest.mark.parametrize("key", [keys.paused("default"), keys.SUSPENDED])
def test_nothing_is_claimed_while_the_queue_is_paused_or_rq_is_suspended(
    redis_client: redis.Redis, hands: Hands, key: str
) -> None:
    redis_client.set(key, 1)
    before = snapshot(redis_client)
    assert hands.claim("default") is None
    assert changes(before, snapshot(redis_client)) == {}
    redis_client.delete(key)
    assert hands.must_claim("default").id == "j1"


def test_a_pause_holds_its_own_queue_only(redis_client: redis.Redis, hands: Hands) -> None:
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="k1", queue="other"), now=NOW)
    overview.pause(redis_client, "default")
    assert hands.claim("default") is None
    assert hands.must_claim("other").id == "k1"


def test_ids_that_lead_nowhere_are_dropped_and_counted(redis_client: redis.Redis, hands: Hands) -> None:
    redis_client.delete("rq:job:j1")
    redis_client.lpush(keys.queue("default"), "ghost")
    assert hands.must_claim("default").id == "j2"
    assert redis_client.hget(keys.totals("default"), "dangling") == b"2"


# --- the lease -------------------------------------------------------------------------------


def test_a_heartbeat_renews_the_leases_that_are_still_the_workers_own(redis_client: redis.Redis, hands: Hands) -> None:
    hands.must_claim("default", now=NOW, execution="e1")
    hands.must_claim("default", now=NOW, execution="e2")
    redis_client.zrem(keys.wip("default"), "j2:e2")
    assert extend(redis_client, NOW + 99, "j1:e1", "j2:e2") == ["j2:e2"]
    assert snapshot(redis_client)["rq:wip:default"] == {"j1:e1": NOW + 99}
    assert extend(redis_client, NOW + 99, "j1:e1", "j2:e2") == ["j2:e2"]
    assert snapshot(redis_client)["rq:wip:default"] == {"j1:e1": NOW + 99}


def test_a_lease_that_has_not_run_out_is_not_taken(redis_client: redis.Redis, hands: Hands) -> None:
    hands.must_claim("default", now=NOW)
    before = snapshot(redis_client)
    assert hands.reclaim("default", now=NOW + LEASE_S - 0.001) == ([], [], 0)
    assert changes(before, snapshot(redis_client)) == {}


def test_a_job_whose_lease_ran_out_is_the_next_to_be_claimed_with_one_crash_and_no_failure(
    redis_client: redis.Redis, hands: Hands
) -> None:
    hands.must_claim("default", now=NOW, execution="e1")
    before = snapshot(redis_client)
    assert hands.reclaim("default", now=NOW + LEASE_S) == (["j1"], [], 0)
    found = moved(redis_client, before)
    was, now_is = found.pop("rq:job:j1")
    assert (now_is["status"], now_is["crashes"], now_is.get("failures")) == ("queued", "1", was.get("failures"))
    assert found == {
        "rq:wip:default": ({"j1:e1": NOW + LEASE_S}, None),
        "rq:queue:default": (["j2"], ["j1", "j2"]),
        "turnstile:bell:default": (["1", "1"], ["1", "1", "1"]),
        "turnstile:totals:default": ({"enqueued": "2"}, {"enqueued": "3", "reclaimed": "1"}),
    }
    after = snapshot(redis_client)
    assert hands.reclaim("default", now=NOW + LEASE_S) == ([], [], 0)
    assert changes(after, snapshot(redis_client)) == {}
    assert hands.must_claim("default").attempt == 1


def test_the_third_crash_in_a_row_leaves_the_job_where_it_is_for_burial(redis_client: redis.Redis, hands: Hands) -> None:
    for crash in (1, 2):
        hands.must_claim("default", execution=f"e{crash}")
        assert hands.reclaim("default")[0] == ["j1"]
    hands.must_claim("default", execution="e3")
    before = snapshot(redis_client)
    for _ in range(2):
        assert hands.reclaim("default") == ([], ["j1:e3"], 0)
        assert changes(before, snapshot(redis_client)) == {}
    assert ending.bury_crashed(redis_client, "default", "j1:e3", NOW) is Written.NOW
    job = snapshot(redis_client)["rq:job:j1"]
    assert (job["status"], job["failures"], job["error_type"]) == ("failed", "0", "Quarantined")
    assert job["error"] == "its worker died 3 times in a row while it ran; no attempt was burned"
    after = snapshot(redis_client)
    assert ending.bury_crashed(redis_client, "default", "j1:e3", NOW) is Written.BEFORE
    assert changes(after, snapshot(redis_client)) == {}


@pytest.mark.parametrize("between", ["success", "failure"])
def test_crashes_count_only_in_a_row(redis_client: redis.Redis, hands: Hands, between: str) -> None:
    redis_client.flushall()
    enqueue(redis_client, sample_tasks.fail.spec("x", job_id="j1"), now=NOW)
    hands.must_claim("default")
    hands.reclaim("default")
    claim = hands.must_claim("default")
    if between == "failure":
        hands.fail(claim, ValueError("x"))
    else:
        hands.finish(claim)
    assert not redis_client.hexists("rq:job:j1", "crashes")


def test_members_that_stand_for_no_running_job_are_removed(redis_client: redis.Redis, hands: Hands) -> None:
    finished = hands.must_claim("default", now=NOW)
    hands.finish(finished)
    redis_client.zadd(keys.wip("default"), {finished.member: 1, "nobody:e": 1, "j2:e": 1, "odd": 1})
    before = snapshot(redis_client)
    assert hands.reclaim("default", now=NOW) == ([], [], 4)
    assert moved(redis_client, before) == {"rq:wip:default": (before["rq:wip:default"], None)}
    assert snapshot(redis_client)["rq:queue:default"] == ["j2"], "a job that waits on its queue is not pushed again"


def test_a_stock_workers_job_that_never_started_comes_back_from_where_it_was_parked(
    redis_client: redis.Redis, hands: Hands
) -> None:
    redis_client.lmove(keys.queue("default"), keys.intermediate("default"), "LEFT", "RIGHT")
    redis_client.zadd(keys.wip("default"), {"j1:e1": NOW})
    assert hands.reclaim("default", now=NOW) == (["j1"], [], 0)
    after = snapshot(redis_client)
    assert (after["rq:queue:default"], after.get("rq:queue:default:intermediate"), after.get("rq:wip:default")) == (
        ["j1", "j2"],
        None,
        None,
    )


def test_reclaiming_takes_as_many_as_it_is_told(redis_client: redis.Redis, hands: Hands) -> None:
    hands.must_claim("default", now=NOW)
    hands.must_claim("default", now=NOW + 1)
    reclaim = script(QUEUE_DIR / "reclaim.lua")
    assert reclaim(redis_client, [keys.wip("default")], ["default", repr(time.time()), 1, 3])[0] == [b"j1"]
    assert reclaim(redis_client, [keys.wip("default")], ["default", repr(time.time()), 1, 3])[0] == [b"j2"]


# --- a lease that was taken --------------------------------------------------------------------


@pytest.mark.parametrize("claimed_again", [False, True])
@pytest.mark.parametrize("how", ["finish", "retry", "bury", "release"])
def test_a_worker_whose_lease_was_taken_writes_nothing(
    redis_client: redis.Redis, hands: Hands, how: str, claimed_again: bool
) -> None:
    old = hands.must_claim("default", now=NOW, execution="old")
    hands.reclaim("default")
    new = hands.must_claim("default", execution="new") if claimed_again else None
    before = snapshot(redis_client)
    endings = {
        "finish": lambda: hands.finish(old, 3),
        "retry": lambda: hands.fail(old, ValueError("late")),
        "bury": lambda: hands.fail(old, SystemExit()),
        "release": lambda: ending.release(redis_client, old, time.time()),
    }
    assert endings[how]() is Written.LEASE_LOST
    assert changes(before, snapshot(redis_client)) == {}
    assert hands.finish(new or hands.must_claim("default"), 3) is Written.NOW
    after = snapshot(redis_client)
    assert endings[how]() is Written.LEASE_LOST
    assert changes(after, snapshot(redis_client)) == {}
