"""The retry budget: the share of a task's failing executions reaches every worker, and its retries slow down."""

import time

import pytest
import redis
import sample_tasks
from hands import Hands
from job_watch import LIMIT_S
from processes import Processes, wait_for
from snapshots import snapshot

from jobs import connections, keys
from jobs.queue import settling
from jobs.queue.budget import BUCKET_S, BUCKETS, BUDGET, MIN_EXECUTIONS, Budget

NOW = 1_763_764_205.0
NAME = "sample.fail_evenly"


def add(client: redis.Redis, now: float, succeeded: int, failed: int) -> list[int]:
    """What a worker adds, and what it learns of all of them."""
    found: list[int] = BUDGET(client, [keys.outcomes(NAME)], [repr(now), succeeded, failed, BUCKET_S, BUCKETS])
    return found


def counted(budget: Budget, succeeded: int, failed: int) -> Budget:
    for ok in [True] * succeeded + [False] * failed:
        budget.count(NAME, ok)
    return budget


def test_workers_share_a_window_of_a_minute_that_forgets(redis_client: redis.Redis) -> None:
    assert add(redis_client, NOW, 3, 4) == [3, 4]
    assert add(redis_client, NOW + 9, 10, 0) == [13, 4]
    assert add(redis_client, NOW + 50, 0, 1) == [13, 5]
    assert add(redis_client, NOW + 65, 0, 0) == [0, 1]
    assert add(redis_client, NOW + 1_000, 2, 0) == [2, 0]
    key = keys.outcomes(NAME)
    assert set(snapshot(redis_client)) == {key, f"{key}!ttl"}
    assert redis_client.hlen(key) <= 2 * BUCKETS
    assert 0 < redis_client.ttl(key) <= BUCKET_S * (BUCKETS + 1)


def test_a_worker_whose_clock_is_behind_counts_all_the_same(redis_client: redis.Redis) -> None:
    add(redis_client, NOW, 1, 1)
    assert add(redis_client, NOW - 15, 0, 2) == [1, 3]


def test_what_one_worker_saw_the_others_learn(redis_client: redis.Redis) -> None:
    one, other = counted(Budget(), 5, 25), counted(Budget(), 0, 1)
    assert one.failing(NAME) == 0.0
    one.exchange(redis_client, NOW)
    other.exchange(redis_client, NOW + 1)
    assert one.failing(NAME) == pytest.approx(25 / 30)
    assert other.failing(NAME) == pytest.approx(26 / 31)
    one.exchange(redis_client, NOW + 2)
    assert one.failing(NAME) == pytest.approx(26 / 31), "it asks without news of its own"
    one.exchange(redis_client, NOW + 100)
    assert one.failing(NAME) == 0.0
    assert one.failing("sample.other") == 0.0


def test_a_few_executions_say_nothing(redis_client: redis.Redis) -> None:
    budget = counted(Budget(), 0, MIN_EXECUTIONS - 1)
    budget.exchange(redis_client, NOW)
    assert budget.failing(NAME) == 0.0
    counted(budget, 0, 1).exchange(redis_client, NOW)
    assert budget.failing(NAME) == 1.0


def test_counts_are_sent_once_and_those_that_redis_could_not_take_are_dropped(redis_client: redis.Redis) -> None:
    budget = counted(Budget(), 0, 30)
    with connections.connect("unix:///nowhere") as away, pytest.raises(redis.exceptions.ConnectionError):
        budget.exchange(away, NOW)
    budget.exchange(redis_client, NOW)
    assert add(redis_client, NOW, 0, 0) == [0, 0]
    counted(budget, 1, 2).exchange(redis_client, NOW)
    budget.exchange(redis_client, NOW)
    assert add(redis_client, NOW, 0, 0) == [1, 2]


def test_the_delay_grows_with_the_share(redis_client: redis.Redis, hands: Hands) -> None:
    sample_tasks.fail_evenly.delay()
    claim = hands.must_claim("default")
    delays = [settling.failed(claim, ValueError("no"), NOW, failing=share).delay_s for share in (0.0, 0.5, 0.75, 1.0)]
    assert delays == [100.0, 100.0, pytest.approx(450.0), pytest.approx(800.0)]


def test_in_a_worker_the_retries_of_a_task_that_always_fails_slow_down(
    redis_client: redis.Redis, hands: Hands, processes: Processes
) -> None:
    processes.worker("default").prints("worker started")
    sample_tasks.fail_evenly.enqueue_many([()] * (MIN_EXECUTIONS + 5))

    def failed() -> int:
        return sum(int(n) for bucket, n in redis_client.hgetall(keys.outcomes(NAME)).items() if bucket.startswith(b"failed"))

    wait_for(lambda: failed() == MIN_EXECUTIONS + 5, LIMIT_S, "the worker has told what it saw")
    handle = sample_tasks.fail_evenly.delay()
    wait_for(lambda: handle.status() == "scheduled", LIMIT_S, "the attempt has failed")
    assert float(redis_client.hget(keys.job(handle.id), "backoff_s") or 0) == 800.0
    due_at = redis_client.zscore(keys.scheduled("default"), handle.id)
    assert due_at is not None
    assert 790 < due_at - time.time() <= 800
