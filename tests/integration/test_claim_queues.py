"""Claims over several queues: priorities, pauses, turns, and what a claim costs."""

import pytest
import redis
from limited import NOW, TASKS, add, free, ids, numbered, rated, take

from jobs import keys
from jobs.queue import claiming, limits, overview
from jobs.settings import Settings


@pytest.fixture(autouse=True)
def _published(redis_client: redis.Redis, settings: Settings) -> None:
    limits.publish(redis_client, TASKS)


def test_a_queue_is_served_with_its_priorities_the_high_one_first(redis_client: redis.Redis) -> None:
    for queue in ("default.low", "default", "default.high", "other.high"):
        add(redis_client, free, queue.replace(".", "-"), queue=queue)
    found = take(redis_client, 9, queues=("default", "other"))
    assert [claim.queue for claim in found.jobs] == ["default.high", "default", "default.low", "other.high"]
    assert redis_client.zcard(keys.wip("default.high")) == 1, "leased on the queue that it waited on"


def test_a_pause_holds_every_priority_of_the_queue(redis_client: redis.Redis) -> None:
    for queue in ("default.low", "default", "default.high", "other"):
        add(redis_client, free, queue.replace(".", "-"), queue=queue)
    add(redis_client, rated, "r", queue="default")
    overview.pause(redis_client, "default.high")
    assert {queue.name for queue in overview.queues(redis_client, NOW) if queue.paused} == {
        "default", "default.high", "default.low",
    }  # fmt: skip
    assert ids(take(redis_client, 9, queues=("default", "other"))) == ["other"]
    assert take(redis_client, queues=("default",)).wait_s is None
    overview.resume(redis_client, "default")
    assert len(ids(take(redis_client, 9))) == 4


def test_a_job_of_any_priority_rings_where_the_queues_workers_wait(redis_client: redis.Redis) -> None:
    add(redis_client, free, "a", queue="default.low")
    bells = claiming.bells(["default", "other", "default.high"])
    assert bells == [keys.bell("default"), keys.bell("other")]
    assert redis_client.lpop(bells[0]) == b"1"


def test_queues_are_served_in_the_order_given(redis_client: redis.Redis) -> None:
    for number in range(3):
        for queue in ("a", "b", "c"):
            add(redis_client, free, f"{queue}{number}", queue=queue)
    assert ids(take(redis_client, 2, queues=("b", "c", "a"))) == ["b0", "b1"]
    assert ids(take(redis_client, 9, queues=("a", "b", "c"))) == ["a0", "a1", "a2", "b2", "c0", "c1", "c2"]


def test_what_is_no_job_costs_the_jobs_behind_it_nothing(redis_client: redis.Redis) -> None:
    add(redis_client, free, "gone", "odd", "a")
    redis_client.delete(keys.job("gone"), keys.job("odd"))
    redis_client.set(keys.job("odd"), "no hash")
    assert ids(take(redis_client, 3)) == ["a"]
    assert redis_client.hget(keys.totals("default"), "dangling") == b"2"


def test_a_claim_costs_one_look_and_two_commands_a_job(redis_client: redis.Redis) -> None:
    for n, most in ((1, 6), (50, 2.1 * 50)):
        add(redis_client, free, *numbered(f"n{n}-", n))
        take(redis_client, 1, now=NOW, queues=("empty",))  # the script is known to the server
        redis_client.config_resetstat()
        assert len(take(redis_client, n).jobs) == n
        stats = redis_client.info("commandstats")
        inside = {"exists", "lpop", "hgetall", "hset", "zadd", "get", "hget", "zcard", "zrangebyscore", "zrange"}
        calls = {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()}
        assert sum(calls[name] for name in inside & set(calls)) <= most, calls
