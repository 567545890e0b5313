"""Delayed jobs and those of rq-scheduler's clients: promoted once, whoever made them. The clock is an argument, no test waits."""

import pickle
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
from rq_scheduler import Scheduler

from jobs import keys
from jobs.connections import is_away
from jobs.queue import calling, task
from jobs.queue.job import JsonJob
from scheduler.promote import BATCH, PROMOTE, Promotion
from scheduler.scheduler import TurnstileScheduler

NOW = 1_800_000_000.0


@task.task(name="test.tick", queue="ticks", result_ttl_s=60)
def tick(depth: int = 1) -> int:
    return depth


def promotion(client: redis.Redis) -> Promotion:
    return Promotion(client, [])


def ready(client: redis.Redis, queue: str = "ticks") -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue(queue), 0, -1)]


def waiting(client: redis.Redis) -> dict[str, float]:
    return {job_id.decode(): due_at for job_id, due_at in client.zrange(keys.SCHEDULED_JOBS, 0, -1, withscores=True)}


def hold(client: redis.Redis, job_id: str, due_at: float) -> str:
    calling.enqueue(client, tick.spec(job_id=job_id, now=NOW), now=NOW, due_at=due_at)
    return job_id


def field(client: redis.Redis, job_id: str, name: str) -> str:
    return (client.hget(keys.job(job_id), name) or b"").decode()


# --- delayed jobs --------------------------------------------------------------------------------


def test_due_jobs_of_every_set_are_promoted_once_in_each_the_longest_due_first(redis_client: redis.Redis) -> None:
    hold(redis_client, "second", NOW - 2)
    hold(redis_client, "not-yet", NOW + 0.3)
    hold(redis_client, "first", NOW - 3)
    hold(redis_client, "retry", NOW)
    redis_client.zrem(keys.SCHEDULED_JOBS, "retry")
    redis_client.zadd(keys.scheduled("ticks"), {"retry": NOW})
    counts = promotion(redis_client).tick(NOW)
    assert ready(redis_client) == ["first", "second", "retry"]
    assert waiting(redis_client) == {"not-yet": NOW + 0.3}
    assert redis_client.zcard(keys.scheduled("ticks")) == 0
    assert counts["promoted"] == 3
    assert field(redis_client, "first", "status") == "queued"
    assert promotion(redis_client).tick(NOW)["promoted"] == 0
    assert promotion(redis_client).tick(NOW + 0.3)["promoted"] == 1
    assert ready(redis_client)[-1] == "not-yet"


def test_what_does_not_wait_any_more_is_removed_and_not_run_again(redis_client: redis.Redis) -> None:
    for status in ("finished", "failed", "canceled", "started"):
        redis_client.hset(keys.job(hold(redis_client, status, NOW - 1)), "status", status)
    calling.enqueue(redis_client, tick.spec(job_id="in-its-queue", now=NOW), now=NOW)
    redis_client.zadd(keys.SCHEDULED_JOBS, {"in-its-queue": NOW - 1, "without-a-hash": NOW - 1})
    assert promotion(redis_client).tick(NOW)["promoted"] == 0
    assert ready(redis_client) == ["in-its-queue"]
    assert waiting(redis_client) == {}


def test_a_job_at_the_front_and_one_without_a_queue_go_where_rq_would_put_them(redis_client: redis.Redis) -> None:
    hold(redis_client, "back", NOW - 2)
    redis_client.hset(keys.job(hold(redis_client, "front", NOW - 1)), "enqueue_at_front", "1")
    redis_client.hdel(keys.job(hold(redis_client, "nowhere", NOW)), "origin")
    promotion(redis_client).tick(NOW)
    assert ready(redis_client) == ["front", "back"]
    assert ready(redis_client, "default") == ["nowhere"]


def test_an_item_that_cannot_be_moved_stops_nothing_and_comes_back_later(redis_client: redis.Redis) -> None:
    redis_client.set(keys.job("no-hash-at-all"), "?")
    redis_client.zadd(keys.SCHEDULED_JOBS, {"no-hash-at-all": NOW - 9})
    hold(redis_client, "good", NOW - 1)
    assert promotion(redis_client).tick(NOW)["promoted"] == 1
    assert ready(redis_client) == ["good"]
    assert waiting(redis_client) == {"no-hash-at-all": NOW + 60}


def test_a_full_redis_is_waited_for_and_nothing_is_moved_by_halves(redis_client: redis.Redis) -> None:
    hold(redis_client, "held", NOW)
    redis_client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(redis.exceptions.ResponseError) as caught:
            promotion(redis_client).tick(NOW)
    finally:
        redis_client.config_set("maxmemory", "0")
    assert is_away(caught.value)
    assert (ready(redis_client), waiting(redis_client)) == ([], {"held": NOW})
    assert promotion(redis_client).tick(NOW)["promoted"] == 1


def test_a_long_backlog_is_promoted_in_batches_within_one_tick(redis_client: redis.Redis) -> None:
    with redis_client.pipeline(transaction=False) as pipeline:
        for number in range(3 * BATCH + 1):
            pipeline.hset(keys.job(f"j{number}"), mapping={"status": "scheduled", "origin": "ticks"})
            pipeline.zadd(keys.SCHEDULED_JOBS, {f"j{number}": NOW - 10 + number / 1000})
        pipeline.execute()
    assert promotion(redis_client).tick(NOW)["promoted"] == 3 * BATCH + 1
    assert ready(redis_client) == [f"j{number}" for number in range(3 * BATCH + 1)]


def test_one_call_moves_a_bounded_number_however_many_sets_are_due(redis_client: redis.Redis) -> None:
    for place in (keys.SCHEDULED_JOBS, *(keys.scheduled(f"q{number}") for number in range(5))):
        with redis_client.pipeline(transaction=False) as pipeline:
            for number in range(BATCH):
                pipeline.hset(keys.job(f"{place[-2:]}-{number}"), mapping={"status": "scheduled", "origin": "ticks"})
                pipeline.zadd(place, {f"{place[-2:]}-{number}": NOW})
            pipeline.execute()
    names = [f"q{number}" for number in range(5)]
    sets = [keys.SCHEDULED_JOBS, *(keys.scheduled(name) for name in names)]
    looked_at, promoted, *_ = PROMOTE(redis_client, [keys.PERIODIC, *sets], [repr(NOW), BATCH, 60, "default", *names])
    assert (looked_at, promoted, len(ready(redis_client))) == (BATCH, BATCH, BATCH)
    for name in names:
        redis_client.sadd(keys.QUEUES, keys.queue(name))
    assert promotion(redis_client).tick(NOW)["promoted"] == 5 * BATCH


def test_two_movers_at_once_promote_twenty_thousand_jobs_once_each(redis_client: redis.Redis) -> None:
    ids = [f"j{number}" for number in range(20_000)]
    for start in range(0, len(ids), 1000):
        with redis_client.pipeline(transaction=False) as pipeline:
            for job_id in ids[start : start + 1000]:
                pipeline.hset(keys.job(job_id), mapping={"status": "scheduled", "origin": "ticks"})
                pipeline.zadd(keys.SCHEDULED_JOBS, {job_id: NOW})
            pipeline.execute()
    promoted: list[int] = []

    def move() -> None:
        mover = promotion(redis_client)
        while redis_client.zcard(keys.SCHEDULED_JOBS):
            promoted.append(mover.tick(NOW)["promoted"])

    threads = [threading.Thread(target=move) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(promoted) == len(ids)
    assert sorted(ready(redis_client)) == sorted(ids)


# --- clients of rq-scheduler ---------------------------------------------------------------------


@pytest.mark.parametrize("scheduler_class", [Scheduler, TurnstileScheduler])
def test_jobs_of_an_rq_scheduler_client_are_served(redis_client: redis.Redis, scheduler_class: type[Scheduler]) -> None:
    client = scheduler_class("ticks", connection=redis_client, job_class=JsonJob)
    job = client.enqueue_in(timedelta(seconds=30), "jobs.nowhere.run", 1, deep=2)
    assert [waiting_job.id for waiting_job in client.get_jobs()] == [job.id]
    assert job.id in client
    assert client.count() == 1
    promotion(redis_client).tick(waiting(redis_client)[job.id])
    stored = JsonJob.fetch(job.id, connection=redis_client)
    assert (stored.args, stored.kwargs, stored.get_status().value, ready(redis_client)) == ([1], {"deep": 2}, "queued", [job.id])


def test_a_periodic_job_of_an_rq_scheduler_client_runs_once_and_the_log_says_so(
    redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Scheduler("ticks", connection=redis_client, job_class=JsonJob)
    every = client.schedule(datetime.now(UTC), "jobs.nowhere.run", interval=60, id="every")
    once = client.schedule(datetime.now(UTC), "jobs.nowhere.run", id="plain", meta={"note": "interval"})
    promotion(redis_client).tick(time.time() + 1)
    assert sorted(ready(redis_client)) == [every.id, once.id]
    assert waiting(redis_client) == {}
    said = capsys.readouterr().out
    assert "it runs this once" in said and every.id in said
    assert once.id not in said


def test_a_pickled_job_is_promoted_unread(redis_client: redis.Redis) -> None:
    for name in ("data", "meta"):
        redis_client.hset(keys.job(hold(redis_client, f"pickled-{name}", NOW)), name, pickle.dumps({"cron_string": "* * * * *"}))
    promotion(redis_client).tick(NOW)
    assert sorted(ready(redis_client)) == ["pickled-data", "pickled-meta"]
    assert waiting(redis_client) == {}
