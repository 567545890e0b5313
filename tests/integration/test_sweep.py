"""Jobs that a stock worker lost between pop and registration: found wherever the walk is, and nothing else is taken for one."""

from datetime import timedelta

import pytest
import redis
import sample_tasks
from hands import Hands
from limited import TASKS, hold_two
from rq import Queue
from rq.serializers import JSONSerializer
from sample_batches import gather
from snapshots import changes, snapshot

from jobs import keys
from jobs.queue import limits
from jobs.queue.calling import enqueue
from jobs.queue.canvas import chord, group
from jobs.queue.canvas_handle import launch
from jobs.queue.canvas_parts import signature
from jobs.queue.job import rq_time
from scheduler import sweep
from scheduler.scheduler import TurnstileScheduler
from scheduler.sweep import Sweep, requeue, stock_workers

NOW = 1_800_000_000.0
STOCK = {"birth": "2026-11-21T03:04:05.123456Z", "queues": "q,r"}


def add(client: redis.Redis, *ids: str, queue: str = "q", now: float = NOW) -> None:
    for job_id in ids:
        enqueue(client, sample_tasks.add.spec(1, 2, job_id=job_id, queue=queue, now=now), now=now)


def pop(client: redis.Redis, *ids: str, queue: str = "q") -> None:
    """What a stock worker on several queues does first."""
    for job_id in ids:
        assert client.lrem(keys.queue(queue), 1, job_id) == 1


def ready(client: redis.Redis, queue: str = "q") -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue(queue), 0, -1)]


def ticks(duty: Sweep, seconds: float, after: float = 0.0) -> list[float]:
    """Ticks as the loop does, for so long; returns when jobs were requeued, in seconds since NOW."""
    found: list[float] = []
    at, end = NOW + after, NOW + after + seconds
    while at <= end:
        found += [round(at - NOW, 3)] * duty.tick(at)["requeued"]
        at += duty.interval_s
    return found


def register_stock(client: redis.Redis) -> None:
    client.hset(keys.worker("stock"), mapping=STOCK)
    client.sadd(keys.WORKERS, keys.worker("stock"))


# --- what is lost ------------------------------------------------------------------------------------


def test_a_parked_id_is_requeued_once_in_front(redis_client: redis.Redis) -> None:
    add(redis_client, "parked", "b")
    redis_client.lmove(keys.queue("q"), keys.intermediate("q"), "LEFT", "RIGHT")
    [at] = ticks(Sweep(redis_client), 20)
    assert sweep.STUCK_AFTER_S <= at <= sweep.STUCK_AFTER_S + 1
    assert ready(redis_client) == ["parked", "b"]
    assert redis_client.llen(keys.intermediate("q")) == 0


def test_an_id_parked_without_a_queued_job_is_removed_and_does_not_hide_those_behind_it(redis_client: redis.Redis) -> None:
    add(redis_client, "started", "parked")
    pop(redis_client, "started", "parked")
    redis_client.hset(keys.job("started"), "status", "started")
    redis_client.rpush(keys.intermediate("q"), *(f"gone{number}" for number in range(250)), "started", "parked")
    before = redis_client.hgetall(keys.job("started"))
    assert len(ticks(Sweep(redis_client), 10)) == 1
    assert (redis_client.llen(keys.intermediate("q")), ready(redis_client)) == (0, ["parked"])
    assert redis_client.hgetall(keys.job("started")) == before


def test_a_parked_id_whose_worker_has_registered_it_is_left_to_that_worker(redis_client: redis.Redis) -> None:
    add(redis_client, "a")
    redis_client.lmove(keys.queue("q"), keys.intermediate("q"), "LEFT", "RIGHT")
    redis_client.zadd(keys.wip("q"), {"a:execution": NOW + 90})
    assert ticks(Sweep(redis_client), 20) == []
    assert (redis_client.llen(keys.intermediate("q")), ready(redis_client)) == (1, [])


@pytest.mark.parametrize("enqueued_at", [None, rq_time(NOW + 3_600)], ids=["now", "by a clock that is fast"])
def test_a_job_in_no_list_is_back_in_front_within_ten_seconds_whenever_it_was_lost(
    redis_client: redis.Redis, enqueued_at: str | None
) -> None:
    register_stock(redis_client)
    duty = Sweep(redis_client)
    assert ticks(duty, 5) == []
    for after in (5.3, 21.7, 44.0):
        add(redis_client, "lost", "waits", now=NOW + after)
        if enqueued_at:
            redis_client.hset(keys.job("lost"), "enqueued_at", enqueued_at)
        pop(redis_client, "lost")
        [at] = ticks(duty, 12, after)
        assert sweep.STUCK_AFTER_S <= at - after <= 8
        assert ready(redis_client) == ["lost", "waits"]
        redis_client.delete(keys.queue("q"), keys.job("lost"), keys.job("waits"))


def test_a_job_that_is_back_with_a_worker_before_the_second_look_is_not_requeued(redis_client: redis.Redis) -> None:
    add(redis_client, "a", "b")
    pop(redis_client, "a", "b")
    duty = Sweep(redis_client)
    assert ticks(duty, 2.5) == []
    redis_client.zadd(keys.wip("q"), {"a:execution": NOW + 90})
    redis_client.hset(keys.job("b"), "status", "finished")
    assert ticks(duty, 20, 2.6) == []
    assert ready(redis_client) == []


def test_a_job_that_was_enqueued_and_popped_again_between_two_looks_has_its_time_anew(redis_client: redis.Redis) -> None:
    add(redis_client, "a")
    pop(redis_client, "a")
    duty = Sweep(redis_client)
    assert ticks(duty, 2.5) == []
    redis_client.hset(keys.job("a"), "enqueued_at", rq_time(NOW + 2.6))
    [at] = ticks(duty, 20, 2.7)
    assert at >= 2.7 + sweep.STUCK_AFTER_S


def test_the_second_look_is_for_the_job_as_the_first_one_saw_it_and_acts_once(redis_client: redis.Redis) -> None:
    add(redis_client, "a")
    pop(redis_client, "a")
    answer = requeue(redis_client, "q", "a", NOW)
    assert answer == rq_time(NOW).encode()
    assert requeue(redis_client, "q", "a", NOW + 5, b"another") == answer
    assert ready(redis_client) == []
    assert requeue(redis_client, "q", "a", NOW + 5, answer) == answer
    assert requeue(redis_client, "q", "a", NOW + 5, answer) is None
    assert ready(redis_client) == ["a"]
    assert redis_client.hget(keys.job("a"), "enqueued_at") == rq_time(NOW + 5).encode()


def test_jobs_that_were_lost_among_many_are_found_in_bounded_steps(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SCAN_COUNT": 50, "PAGE": 20, "MAX_QUEUED": 100, "MAX_LOOKS": 7}.items():
        monkeypatch.setattr(sweep, name, value)
    register_stock(redis_client)
    ids = [f"j{number}" for number in range(600)]
    add(redis_client, *ids)
    lost = ids[::60]
    pop(redis_client, *lost)
    found = ticks(Sweep(redis_client), 60)
    assert len(found) == len(lost)
    assert sorted(ready(redis_client)) == sorted(ids)


def test_more_lost_jobs_than_one_tick_requeues_all_come_back(redis_client: redis.Redis) -> None:
    ids = [f"j{number}" for number in range(3 * sweep.MAX_ACTS)]
    add(redis_client, *ids)
    redis_client.delete(keys.queue("q"))
    assert len(ticks(Sweep(redis_client), 10)) == len(ids)
    assert sorted(ready(redis_client)) == sorted(ids)


# --- what is not lost --------------------------------------------------------------------------------


def test_no_place_in_which_a_queued_job_may_be_is_taken_for_none(redis_client: redis.Redis, hands: Hands) -> None:
    limits.publish(redis_client, TASKS)
    register_stock(redis_client)
    hold_two(redis_client)  # one runs with a worker of ours, two are held
    for queue in ("q", "q.high", "q.low", "paused"):
        add(redis_client, f"in-{queue.replace('.', '-')}", queue=queue)
    redis_client.set(keys.paused("paused"), "1")
    add(redis_client, "unlisted", queue="unlisted")
    redis_client.srem(keys.QUEUES, keys.queue("unlisted"))
    add(redis_client, "moved")
    redis_client.hset(keys.job("moved"), "origin", "elsewhere")
    add(redis_client, "registered", "retries", "periodic", "owned")
    pop(redis_client, "registered", "retries", "periodic", "owned")
    redis_client.zadd(keys.wip("q"), {"registered:execution": NOW + 90})
    redis_client.zadd(keys.scheduled("q"), {"retries": NOW + 90})
    redis_client.zadd(keys.SCHEDULED_JOBS, {"periodic": NOW + 90})
    redis_client.hset(keys.job("owned"), "owned", "1")
    rq_queue = Queue("q", connection=redis_client, serializer=JSONSerializer)
    parent = rq_queue.enqueue("sample_tasks.add", 1, 2)
    rq_queue.enqueue("sample_tasks.add", 1, 2, depends_on=parent)
    TurnstileScheduler("q", connection=redis_client).enqueue_in(timedelta(hours=1), sample_tasks.add.function, 1, 2)
    gather.add_many(redis_client, [{"give": 1}], ["item"])
    launch(redis_client, chord([signature(sample_tasks.add, (1, 2))], signature(sample_tasks.collect)))
    launch(redis_client, group(signature(sample_tasks.add, (1, 2)), signature(sample_tasks.add, (3, 4))))
    redis_client.sadd("rq:job:in-q:dependents", "x")  # a key of RQ's that is like a job's
    before = snapshot(redis_client)
    assert ticks(Sweep(redis_client), 30) == []
    assert changes(before, snapshot(redis_client)) == {}


# --- what it costs -----------------------------------------------------------------------------------


def test_the_walk_hurries_for_a_minute_after_a_stock_worker_was_seen_and_then_idles(redis_client: redis.Redis) -> None:
    redis_client.hset(keys.worker("ours"), mapping={"birth": "now", "kind": "io"})
    redis_client.hset(keys.worker("theirs"), mapping=STOCK)
    redis_client.sadd(keys.WORKERS, keys.worker("ours"), keys.worker("dead"))
    redis_client.sadd(keys.WORKERS, keys.worker("odd"))
    redis_client.set(keys.worker("odd"), "no hash")
    assert not stock_workers(redis_client)
    duty = Sweep(redis_client)
    ticks(duty, 61)
    assert duty.interval_s == 1.0, "who begins to lead does not know which workers there were"
    redis_client.sadd(keys.WORKERS, keys.worker("theirs"))
    ticks(duty, 1, 62)
    assert (stock_workers(redis_client), duty.interval_s) == (True, 0.1)
    redis_client.srem(keys.WORKERS, keys.worker("theirs"))
    ticks(duty, 58, 64)
    assert duty.interval_s == 0.1
    ticks(duty, 10, 122)
    assert duty.interval_s == 1.0


def test_a_tick_asks_redis_a_bounded_number_of_times(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SCAN_COUNT", 1)
    add(redis_client, *(f"j{number}" for number in range(500)))
    duty = Sweep(redis_client)
    duty.tick(NOW)
    redis_client.config_resetstat()
    duty.tick(NOW + 0.1)
    assert int(redis_client.info("stats")["total_reads_processed"]) <= 2 * sweep.STEPS
