"""A worker's entry and heartbeat: leases by the server's clock, RQ's tools see the worker, it learns what it must know."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import redis
import sample_tasks
from rq.worker import BaseWorker, Worker
from snapshots import snapshot

from jobs import keys
from jobs.queue import overview, pools
from jobs.queue.calling import enqueue
from jobs.queue.clock import Clock
from jobs.queue.registration import Pulse, Registration
from jobs.setting_values import Range

LEASE_S = 4.0
FIELDS: dict[str, str | int | None] = {
    "birth": "2026-11-21T03:04:05.123456Z",
    "queues": "default,other",
    "pid": 7,
    "hostname": "here",
    "ip_address": "unknown",
    "version": "2.12.0",
    "python_version": "3.11",
    "kind": "io",
    "shutdown_requested_date": None,
}
Beat = Callable[..., Pulse]


@pytest.fixture
def registration() -> Registration:
    return Registration("w1", ["default", "other"], FIELDS)


@pytest.fixture
def beat(redis_client: redis.Redis, registration: Registration) -> Beat:
    """One heartbeat of an idle worker, or with what the test says of it."""

    def send(leases: Mapping[str, Sequence[str]] | None = None, **told: Any) -> Pulse:
        state = {"state": "idle", "current_job": None, "size": 10, "within": Range(10, 100), "busy": 0, "memory_bytes": 1_000}
        return registration.beat(redis_client, leases=leases or {}, lease_s=LEASE_S, **{**state, **told})

    return send


def test_the_first_heartbeat_enrols_the_worker_and_rq_reads_its_entry(redis_client: redis.Redis, beat: Beat) -> None:
    beat(state="busy", current_job="j1", size=20, busy=3)
    [seen] = Worker.all(connection=redis_client)
    assert (seen.name, seen.queue_names(), seen.get_state(), seen._job_id) == ("w1", ["default", "other"], "busy", "j1")
    assert (seen.pid, seen.hostname, seen.ip_address, seen.python_version) == (7, "here", "unknown", "3.11")
    assert abs(seen.last_heartbeat.timestamp() - time.time()) < 5
    assert (seen.birth_date.year, seen.successful_job_count) == (2026, 0)
    assert redis_client.smembers(keys.workers("other")) == {b"rq:worker:w1"}
    assert 0 < redis_client.ttl(keys.worker("w1")) <= 3 * LEASE_S
    ours = {name: snapshot(redis_client)["rq:worker:w1"].get(name) for name in ("kind", "pool", "size", "min", "max", "busy")}
    assert ours == {"kind": "io", "pool": "default-other", "size": "20", "min": "10", "max": "100", "busy": "3"}


def test_every_field_that_rq_writes_of_its_own_worker_is_written_of_ours(redis_client: redis.Redis, beat: Beat) -> None:
    stock = Worker(["default"], name="stock", connection=redis_client)
    stock.register_birth()
    beat()
    assert set(snapshot(redis_client)["rq:worker:stock"]) <= set(snapshot(redis_client)["rq:worker:w1"])
    assert {worker.name for worker in BaseWorker.all(connection=redis_client)} == {"stock", "w1"}


def test_a_heartbeat_keeps_what_was_counted_and_drops_what_no_longer_holds(redis_client: redis.Redis, beat: Beat) -> None:
    beat(current_job="j1")
    redis_client.hset(keys.worker("w1"), mapping={"successful_job_count": 5, "death": "2026-11-21T03:04:05.123456Z"})
    beat(current_job=None)
    entry = snapshot(redis_client)["rq:worker:w1"]
    assert (entry["successful_job_count"], "current_job" in entry, "death" in entry) == ("5", False, False)


def test_after_redis_lost_everything_the_next_heartbeat_enrols_again(redis_client: redis.Redis, beat: Beat) -> None:
    beat()
    before = set(snapshot(redis_client))
    redis_client.flushall()
    beat()
    assert set(snapshot(redis_client)) == before


def test_who_leaves_is_gone_even_while_memory_is_full(redis_client: redis.Redis, beat: Beat, registration: Registration) -> None:
    beat()
    redis_client.config_set("maxmemory", 1)
    try:
        registration.leave(redis_client)
        registration.leave(redis_client)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert snapshot(redis_client) == {}


# --- leases -----------------------------------------------------------------------------------


def test_leases_are_renewed_by_the_servers_clock_whatever_the_workers_own_says(redis_client: redis.Redis) -> None:
    ahead = Registration("w1", ["default"], FIELDS, Clock(lambda: time.time() + 3_600))
    redis_client.zadd(keys.wip("default"), {"j1:e1": 1.0})
    redis_client.zadd(keys.wip("default.high"), {"j2:e2": 1.0})
    pulse = ahead.beat(
        redis_client,
        leases={"default": ["j1:e1"], "default.high": ["j2:e2"], "other": []},
        lease_s=LEASE_S,
        state="busy",
        current_job="j1",
        size=1,
        within=Range(1, 1),
        busy=1,
        memory_bytes=1,
    )
    assert redis_client.zscore(keys.wip("default"), "j1:e1") == pytest.approx(pulse.server_now + LEASE_S, abs=1e-5)
    assert redis_client.zscore(keys.wip("default.high"), "j2:e2") == pytest.approx(pulse.server_now + LEASE_S, abs=1e-5)
    assert pulse.lost == frozenset()
    assert pulse.server_now == pytest.approx(time.time(), abs=5)
    assert ahead.clock.now() == pytest.approx(time.time(), abs=5)


def test_a_lease_that_is_somebody_elses_now_is_named_and_not_taken_back(redis_client: redis.Redis, beat: Beat) -> None:
    redis_client.zadd(keys.wip("default"), {"j1:e1": 1.0, "j2:new": 2.0})
    pulse = beat({"default": ["j1:e1", "j2:old"], "gone": ["j3:e3"]})
    assert pulse.lost == {"j2:old", "j3:e3"}
    left = snapshot(redis_client)
    assert (set(left["rq:wip:default"]), left["rq:wip:default"]["j2:new"]) == ({"j1:e1", "j2:new"}, 2.0)
    assert "rq:wip:gone" not in left


def test_thousands_of_leases_are_renewed_in_one_heartbeat(redis_client: redis.Redis, beat: Beat) -> None:
    members = [f"j{number}:e" for number in range(5_001)]
    redis_client.zadd(keys.wip("default"), dict.fromkeys(members[1:], 1.0))
    assert beat({"default": members}).lost == {"j0:e"}
    assert redis_client.zcount(keys.wip("default"), 2, "+inf") == 5_000


def test_while_memory_is_full_leases_are_still_renewed(redis_client: redis.Redis, beat: Beat) -> None:
    redis_client.zadd(keys.wip("default"), {"j1:e1": 1.0})
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            redis_client.set("x", "y")
        pulse = beat({"default": ["j1:e1", "j2:e2"]})
    finally:
        redis_client.config_set("maxmemory", 0)
    assert pulse.lost == {"j2:e2"}
    assert (redis_client.zscore(keys.wip("default"), "j1:e1") or 0) > time.time()


def test_damaged_keys_cost_no_lease_and_no_heartbeat(redis_client: redis.Redis, beat: Beat) -> None:
    redis_client.zadd(keys.wip("default"), {"j1:e1": 1.0})
    redis_client.rpush(keys.queue("other"), "broken", "j2")
    for key in (keys.worker("w1"), keys.WORKERS, keys.workers("default"), keys.POOLS, keys.queue("default"), keys.job("broken")):
        redis_client.set(key, "no such thing")
    pulse = beat({"default": ["j1:e1"]})
    assert (pulse.lost, pulse.oldest_age_s, pulse.wanted) == (frozenset(), 0.0, None)
    assert (redis_client.zscore(keys.wip("default"), "j1:e1") or 0) > time.time()


# --- what a worker is told --------------------------------------------------------------------


def test_a_worker_learns_the_age_of_the_oldest_ready_job_of_all_its_queues_and_priorities(
    redis_client: redis.Redis, beat: Beat
) -> None:
    assert beat().oldest_age_s == 0.0
    now = time.time()
    enqueue(redis_client, sample_tasks.add.spec(1, 2), now=now - 5)
    enqueue(redis_client, sample_tasks.add.spec(1, 2, queue="other"), now=now - 20)
    enqueue(redis_client, sample_tasks.add.spec(1, 2, queue="unrelated"), now=now - 99)
    assert beat().oldest_age_s == pytest.approx(20, abs=3)
    enqueue(redis_client, sample_tasks.add.spec(1, 2, queue="default.low"), now=now - 60)
    assert beat().oldest_age_s == pytest.approx(60, abs=3)
    overview.pause(redis_client, "default")
    assert beat().oldest_age_s == pytest.approx(20, abs=3), "more workers are of no use to a queue that is paused"


def test_an_operators_range_reaches_the_workers_of_its_pool_until_it_is_taken_back(redis_client: redis.Redis, beat: Beat) -> None:
    pools.scale(redis_client, "default-other", Range(2, 8))
    pools.scale(redis_client, "default", Range(1, 1))
    assert beat().wanted == Range(2, 8)
    redis_client.hset(keys.POOLS, "broken", "8..2")
    assert pools.ranges(redis_client) == {"default-other": Range(2, 8), "default": Range(1, 1)}
    pools.scale(redis_client, "default-other", None)
    pools.scale(redis_client, "default-other", None)
    assert beat().wanted is None


def test_a_worker_learns_that_all_are_suspended(redis_client: redis.Redis, beat: Beat) -> None:
    assert not beat().suspended
    redis_client.set(keys.SUSPENDED, "1")
    assert beat().suspended


def test_the_operations_page_reads_the_entry(redis_client: redis.Redis, beat: Beat) -> None:
    beat(state="busy", current_job="j1")
    [seen] = overview.workers(redis_client)
    assert (seen.name, seen.state, seen.current_job, seen.pid) == ("w1", "busy", "j1", 7)
    assert seen.heartbeat_at == pytest.approx(time.time(), abs=5)
