"""A held job is not lost, and operators see what is held and change the limits."""

import time

import pytest
import redis
from hands import Hands
from limited import NOW, TASKS, add, free, held, hold_two, ids, numbered, owned, rated, take
from mall_floor import Floor
from snapshots import changes, snapshot
from web_site import serving

from jobs import keys
from jobs.mall import reconcile
from jobs.queue import catalogue, ending, job_store, limits, overview
from jobs.queue.limits import Limits, Rate
from jobs.settings import Settings
from scheduler.sweep import requeue


@pytest.fixture(autouse=True)
def _published(redis_client: redis.Redis, settings: Settings) -> None:
    limits.publish(redis_client, TASKS)


# --- a held job is not lost ------------------------------------------------------------------------


def test_a_held_job_is_not_taken_for_lost(redis_client: redis.Redis, hands: Hands) -> None:
    hold_two(redis_client)
    redis_client.zadd(keys.wip("default"), {"h1:ghost": 1})
    redis_client.zadd(keys.scheduled("default"), {"h2": 1})
    assert not requeue(redis_client, "default", "h1", NOW)
    assert hands.reclaim("default", now=NOW + 1) == ([], [], 1)
    assert hands.promote("default") == 0
    assert (held(redis_client, "limits.owned"), redis_client.llen(keys.queue("default"))) == (["h1", "h2"], 0)


@pytest.mark.parametrize("how", ["reclaimed", "handed back"])
def test_a_job_that_comes_back_waits_in_front_of_those_that_were_held(redis_client: redis.Redis, hands: Hands, how: str) -> None:
    add(redis_client, owned, "first", "h1", "h2")
    claim = take(redis_client, 9).jobs[0]
    if how == "reclaimed":
        hands.reclaim("default")
    else:
        ending.release(redis_client, claim, NOW)
    assert ids(take(redis_client, now=NOW + 1)) == []
    assert held(redis_client, "limits.owned") == ["first", "h1", "h2"]


def test_an_order_whose_job_is_held_needs_no_healing(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    floor.put("A", 1)
    order_id = floor.order(("A", 1))
    hands.work_off("picking")
    redis_client.hset(keys.job(f"{order_id}-pack"), "limited", "limits.owned")
    add(redis_client, owned, "first")
    assert ids(take(redis_client, 9, now=time.time(), queues=("default", "packing"))) == ["first"]
    assert held(redis_client, "limits.owned", "packing") == [f"{order_id}-pack"]
    before = snapshot(redis_client)
    assert reconcile.reconcile(redis_client, now=time.time() + 100, after_s=1.0) == []
    assert changes(before, snapshot(redis_client)) == {}


def test_a_held_job_can_be_cancelled(redis_client: redis.Redis) -> None:
    add(redis_client, rated, *numbered("r", 4))
    take(redis_client, 9)
    assert job_store.cancel(redis_client, "r2", NOW).status == "canceled"
    assert job_store.cancel(redis_client, "r3", NOW).status == "canceled"
    assert not redis_client.exists(keys.held("default"), keys.held_jobs("default", "limits.rated")), "nothing is left behind"


def test_a_purge_deletes_held_jobs_but_none_that_belongs_to_a_state(redis_client: redis.Redis) -> None:
    hold_two(redis_client)
    add(redis_client, rated, *numbered("r", 4))
    take(redis_client, 9)
    add(redis_client, free, "f")
    assert overview.purge(redis_client, "default") == (3, 2)
    assert overview.purge(redis_client, "default") == (0, 2)
    assert held(redis_client, "limits.owned") == ["h1", "h2"]
    assert redis_client.zrange(keys.held("default"), 0, -1) == [b"limits.owned"]
    assert not redis_client.exists(keys.job("r2"), keys.job("f"))
    assert ids(take(redis_client, 9, now=NOW + 3_600)) == ["h1"]


def test_a_held_job_that_is_gone_costs_neither_rate_nor_the_jobs_behind_it(redis_client: redis.Redis) -> None:
    add(redis_client, rated, *numbered("r", 4))
    take(redis_client, 9)
    redis_client.delete(keys.job("r2"))
    assert ids(take(redis_client, 1, now=NOW + 0.11)) == ["r3"]
    assert redis_client.hget(keys.totals("default"), "dangling") == b"1"
    assert not redis_client.exists(keys.held("default"))


def test_a_full_memory_stops_no_claim_of_held_jobs(redis_client: redis.Redis) -> None:
    hold_two(redis_client)
    add(redis_client, free, "f")
    redis_client.zadd(keys.held("default"), {"limits.owned": 0})
    try:
        redis_client.config_set("maxmemory", 1)
        assert ids(take(redis_client, 9)) == ["f"]
        assert ids(take(redis_client, 9, now=NOW + 3_600)) == ["h1"]
    finally:
        redis_client.config_set("maxmemory", 0)


# --- what operators see and change -----------------------------------------------------------------


def test_what_workers_declare_is_published_and_an_override_outlives_it(redis_client: redis.Redis) -> None:
    redis_client.hset(keys.LIMITS, "of.other.code", "1/s:")
    assert limits.declared(redis_client)["limits.rated"] == Limits(Rate(10, "s"))
    limits.override(redis_client, "limits.rated", Limits(max_concurrent=1))
    limits.publish(redis_client, TASKS)
    assert limits.overridden(redis_client) == {"limits.rated": Limits(max_concurrent=1)}
    add(redis_client, rated, *numbered("r", 30))
    assert ids(take(redis_client, 30)) == ["r0"]
    limits.override(redis_client, "limits.rated", None)
    assert ids(take(redis_client, 30)) == ["r1", "r2"], "what is declared is back, at once"
    limits.override(redis_client, "limits.rated", Limits())
    assert ids(take(redis_client, 30)) == numbered("r", 30)[3:]
    assert "of.other.code" in limits.declared(redis_client)


def test_a_faster_rate_counts_from_its_change(redis_client: redis.Redis) -> None:
    hold_two(redis_client)
    limits.override(redis_client, "limits.owned", Limits(Rate(50, "s")))
    assert ids(take(redis_client, 9)) == ["h1", "h2"]


def test_a_limit_that_is_no_longer_declared_is_withdrawn_and_what_it_held_starts(redis_client: redis.Redis) -> None:
    hold_two(redis_client)
    rate, owned.rate_limit = owned.rate_limit, None
    try:
        limits.publish(redis_client, TASKS)
    finally:
        owned.rate_limit = rate
    assert ids(take(redis_client, 9)) == ["h1", "h2"]


def test_a_queue_tells_how_many_of_its_jobs_are_held(redis_client: redis.Redis) -> None:
    add(redis_client, rated, *numbered("r", 5))
    add(redis_client, free, "f", queue="other")
    take(redis_client, 9)
    seen = {queue.name: (queue.depth, queue.held, queue.oldest_age_s) for queue in overview.queues(redis_client, NOW + 60)}
    assert seen == {"default": (3, 3, 0.0), "other": (1, 0, 60.0)}


def test_operators_see_change_and_give_back_the_limits_of_a_task(redis_client: redis.Redis, settings: Settings) -> None:
    add(redis_client, rated, *numbered("r", 5))
    take(redis_client, 9, now=time.time())
    catalogue.publish(redis_client)
    with serving(settings) as http:

        def seen() -> dict[str, object]:
            tasks = {entry["name"]: entry for entry in http.get("/v1/tasks").json()["tasks"]}
            return dict(tasks["limits.rated"])

        limit = {"rate_limit": "10/s", "max_concurrent": None, "overridden": False}
        assert seen() == {"name": "limits.rated", "queue": "default", **limit, "held": 3}
        url = "/v1/tasks/limits.rated/limits"
        assert http.post(url, json={"max_concurrent": 4}).status_code == 200
        assert (seen()["rate_limit"], seen()["max_concurrent"], seen()["overridden"]) == ("10/s", 4, True)
        assert http.post(url, json={"rate_limit": None}).json()["rate_limit"] is None
        assert (seen()["rate_limit"], seen()["max_concurrent"]) == (None, 4)
        refused = http.post(url, json={"rate_limit": "fast"})
        assert (refused.status_code, "as in 50/s" in refused.text) == (422, True)
        assert http.post(url, json={"max_concurrent": 0}).status_code == 422
        assert http.delete(url).json()["rate_limit"] == "10/s"
        assert (seen()["max_concurrent"], seen()["overridden"]) == (None, False)
        assert http.post("/v1/tasks/no.such/limits", json={}).status_code == 404
        assert http.post("/v1/tasks/limits.free/limits", json={"max_concurrent": 4}).status_code == 409
    assert {entry[b"what"] for _id, entry in redis_client.xrange(keys.AUDIT)} == {b"set limits", b"restore limits"}
