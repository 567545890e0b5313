"""Delayed jobs and those of rq-scheduler's clients: promoted once, whoever made them. The clock is an argument, no test waits."""

import json
import random
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
from command_counts import commands_of
from processes import Processes, wait_for
from rq_scheduler import Scheduler

from jobs import keys
from jobs.connections import is_away
from jobs.queue import calling, dead_letters, task
from jobs.queue.job import JsonJob
from scheduler.duty import Counts
from scheduler.promote import BATCH, GAP_S, LOOK_S, MAX_TICK_S, PROMOTE, Promotion
from scheduler.scheduler import TurnstileScheduler
from scheduler.sweep import Sweep

NOW = 1_800_000_000.0
LIMIT_S = 60.0
CALL = json.dumps(["test.tick", None, [], {}])


@task.task(name="test.tick", queue="ticks", result_ttl_s=60)
def tick(depth: int = 1) -> int:
    return depth


def promotion(client: redis.Redis) -> Promotion:
    return Promotion(client, lambda _definition, _now: {}, lambda _job_id, _due_at, _now: {})


def ready(client: redis.Redis, queue: str = "ticks") -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue(queue), 0, -1)]


def waiting(client: redis.Redis) -> dict[str, float]:
    return {job_id.decode(): due_at for job_id, due_at in client.zrange(keys.SCHEDULED_JOBS, 0, -1, withscores=True)}


def hold(client: redis.Redis, job_id: str, due_at: float) -> str:
    calling.enqueue(client, tick.spec(job_id=job_id, now=NOW), now=NOW, due_at=due_at)
    return job_id


def hold_many(client: redis.Redis, due: dict[str, float], place: str = keys.SCHEDULED_JOBS) -> None:
    ids = list(due)
    for start in range(0, len(ids), 1000):
        with client.pipeline(transaction=False) as pipeline:
            for job_id in ids[start : start + 1000]:
                pipeline.hset(keys.job(job_id), mapping={"status": "scheduled", "origin": "ticks", "data": CALL})
                pipeline.zadd(place, {job_id: due[job_id]})
            pipeline.execute()


def field(client: redis.Redis, job_id: str, name: str) -> str:
    return (client.hget(keys.job(job_id), name) or b"").decode()


# --- delayed jobs --------------------------------------------------------------------------------


def test_due_jobs_of_every_set_are_promoted_once_the_longest_due_first(redis_client: redis.Redis) -> None:
    hold(redis_client, "second", NOW - 2)
    hold(redis_client, "not-yet", NOW + 0.3)
    hold(redis_client, "first", NOW - 3)
    hold_many(redis_client, {"retry": NOW - 2.5}, keys.scheduled("ticks"))
    counts = promotion(redis_client).tick(NOW)
    assert ready(redis_client) == ["first", "retry", "second"]
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
    counts = promotion(redis_client).tick(NOW)
    assert (counts["promoted"], counts["dangling"]) == (0, 1)
    assert ready(redis_client) == ["in-its-queue"]
    assert waiting(redis_client) == {}


def test_a_job_at_the_front_and_one_without_a_queue_go_where_rq_would_put_them(redis_client: redis.Redis) -> None:
    hold(redis_client, "back", NOW - 2)
    redis_client.hset(keys.job(hold(redis_client, "front", NOW - 1)), "enqueue_at_front", "1")
    redis_client.hdel(keys.job(hold(redis_client, "nowhere", NOW)), "origin")
    promotion(redis_client).tick(NOW)
    assert ready(redis_client) == ["front", "back"]
    assert ready(redis_client, "default") == ["nowhere"]


@pytest.mark.parametrize("list_key", [keys.held_jobs("ticks", "test.tick"), keys.queue("ticks"), "nowhere"])
def test_a_job_that_says_it_is_queued_is_not_promoted_a_second_time_however_long_its_queue_is(
    redis_client: redis.Redis, list_key: str
) -> None:
    fields = {"status": "queued", "limited": "test.tick", "enqueued_at": "2026-11-21T03:04:05.123456Z"}
    redis_client.hset(keys.job(hold(redis_client, "held", NOW)), mapping=fields)
    if list_key != "nowhere":
        redis_client.rpush(list_key, "held")
    before = commands_of(redis_client)
    assert promotion(redis_client).tick(NOW)["promoted"] == 0
    assert waiting(redis_client) == {}
    assert commands_of(redis_client).get("lpos", 0) == before.get("lpos", 0), "a look at a million jobs takes long"
    sweep = Sweep(redis_client)
    requeued = sum(sweep.tick(NOW + 10 + number)["requeued"] for number in range(20))
    assert requeued == (list_key == "nowhere")


def test_a_job_of_a_client_that_calls_it_queued_though_it_never_was_is_promoted(redis_client: redis.Redis) -> None:
    redis_client.hset(keys.job(hold(redis_client, "odd", NOW)), mapping={"status": "queued", "enqueued_at": ""})
    assert promotion(redis_client).tick(NOW)["promoted"] == 1


def test_a_job_that_waits_in_two_sets_is_promoted_once(redis_client: redis.Redis) -> None:
    hold(redis_client, "twice", NOW - 1)
    redis_client.zadd(keys.scheduled("ticks"), {"twice": NOW - 2})
    assert promotion(redis_client).tick(NOW)["promoted"] == 1
    assert (ready(redis_client), waiting(redis_client), redis_client.zcard(keys.scheduled("ticks"))) == (["twice"], {}, 0)


def test_a_promoted_job_is_counted_makes_its_queue_known_and_wakes_the_workers_that_serve_its_priority(
    redis_client: redis.Redis,
) -> None:
    hold(redis_client, "urgent", NOW)
    redis_client.hset(keys.job("urgent"), "origin", "ticks.high")
    redis_client.delete(keys.QUEUES)
    promotion(redis_client).tick(NOW)
    assert ready(redis_client, "ticks.high") == ["urgent"]
    assert redis_client.smembers(keys.QUEUES) == {keys.queue("ticks.high").encode()}
    assert redis_client.llen(keys.bell("ticks")) == 1
    assert redis_client.hget(keys.totals("ticks.high"), "enqueued") == b"1"


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


# --- many, and in time ---------------------------------------------------------------------------


def test_the_duty_asks_to_be_called_when_the_next_job_of_any_set_is_due(redis_client: redis.Redis) -> None:
    mover = promotion(redis_client)
    mover.tick(NOW)
    assert mover.interval_s == LOOK_S
    hold(redis_client, "later", NOW + 0.03)
    hold_many(redis_client, {"soon": NOW + 0.0125}, keys.scheduled("ticks"))
    mover.tick(NOW)
    assert mover.interval_s == pytest.approx(0.0125, abs=1e-6)
    assert mover.tick(NOW + mover.interval_s)["promoted"] == 1
    assert ready(redis_client) == ["soon"]
    assert mover.interval_s == pytest.approx(0.0175, abs=1e-6)
    mover.tick(NOW + 0.03)
    assert ready(redis_client) == ["soon", "later"]
    assert mover.interval_s == LOOK_S
    hold_many(redis_client, {f"dense-{number}": NOW + 1 + number / 10_000 for number in range(10)})
    mover.tick(NOW + 1)
    assert mover.interval_s == GAP_S, "a tick for each of them would be a busy loop"
    assert mover.tick(NOW + 1 + GAP_S)["promoted"] == 9


def test_a_tick_with_nothing_due_is_one_round_trip_and_one_read_of_each_set(redis_client: redis.Redis) -> None:
    mover = promotion(redis_client)
    redis_client.sadd(keys.QUEUES, *(keys.queue(f"q{number}") for number in range(30)))
    hold_many(redis_client, {f"j{number}": NOW + 1 + number for number in range(5_000)})
    mover.tick(NOW)
    before = commands_of(redis_client)
    mover.tick(NOW)
    ran = {name: calls - before.get(name, 0) for name, calls in commands_of(redis_client).items() if calls != before.get(name, 0)}
    assert ran == {"evalsha": 1, "smembers": 1, "zrange": 31, "info": 1}


def test_a_long_backlog_is_promoted_in_batches_within_one_tick(redis_client: redis.Redis) -> None:
    due = {f"j{number}": NOW - 10 + number / 1000 for number in range(3 * BATCH + 1)}
    hold_many(redis_client, due)
    mover = Promotion(redis_client, lambda *_: {}, lambda *_: {}, monotonic=lambda: 0.0)
    assert mover.tick(NOW)["promoted"] == 3 * BATCH + 1
    assert ready(redis_client) == list(due)


def test_a_backlog_is_put_on_the_queue_in_due_order_whichever_sets_it_waited_in(redis_client: redis.Redis) -> None:
    chance = random.Random(7)
    due: dict[str, float] = {}
    for place, number in ((keys.SCHEDULED_JOBS, 3 * BATCH), *((keys.scheduled(f"q{i}"), 40 * i) for i in range(12))):
        part = {f"{place}-{i}".replace(":", "-"): NOW - chance.uniform(0, 50) for i in range(number)}
        hold_many(redis_client, part, place)
        due |= part
    redis_client.sadd(keys.QUEUES, *(keys.queue(f"q{number}") for number in range(12)))
    first, *_ = PROMOTE(redis_client, [keys.SCHEDULED_JOBS, keys.QUEUES], [repr(NOW), BATCH, 0])
    assert 0 < first < 2 * BATCH
    mover = Promotion(redis_client, lambda *_: {}, lambda *_: {}, monotonic=lambda: 0.0)
    assert mover.tick(NOW)["promoted"] == len(due) - first
    assert ready(redis_client) == sorted(due, key=lambda job_id: due[job_id])


def test_a_backlog_leaves_the_other_duties_their_time_and_goes_on_at_once(redis_client: redis.Redis) -> None:
    hold_many(redis_client, {f"j{number}": NOW for number in range(2 * BATCH + 1)})
    times = iter([0.0, MAX_TICK_S / 2, MAX_TICK_S])
    mover = Promotion(redis_client, lambda *_: {}, lambda *_: {}, monotonic=lambda: next(times))
    assert mover.tick(NOW)["promoted"] == 2 * BATCH
    assert mover.interval_s == 0.0
    assert promotion(redis_client).tick(NOW)["promoted"] == 1


def test_two_movers_at_once_promote_twenty_thousand_jobs_once_each(redis_client: redis.Redis) -> None:
    ids = [f"j{number}" for number in range(20_000)]
    hold_many(redis_client, dict.fromkeys(ids, NOW))
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


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of rq-scheduler's library for cron
def test_a_periodic_job_of_an_rq_scheduler_client_stays_and_is_handed_over(redis_client: redis.Redis) -> None:
    client = Scheduler("ticks", connection=redis_client, job_class=JsonJob)
    every = client.schedule(datetime.now(UTC), "jobs.nowhere.run", interval=60, id="every", result_ttl=60)
    redis_client.hset(keys.job("every"), "status", "finished")  # it ran under a stock scheduler
    cron = client.cron("* * * * *", "jobs.nowhere.run", id="cron")
    meta = {"note": '"interval"', "cron_string": "", "interval": None, "deep": {"interval": 60}}
    once = client.schedule(datetime.now(UTC), "jobs.nowhere.run", id="plain", meta=meta)
    due, now = waiting(redis_client), time.time() + 100
    handed: list[tuple[str, float, float]] = []

    def fire(job_id: str, due_at: float, now: float) -> Counts:
        handed.append((job_id, due_at, now))
        return {"fired": 1}

    assert Promotion(redis_client, lambda *_: {}, fire).tick(now)["fired"] == 2
    assert handed == [(job_id, due[job_id], now) for job_id in (every.id, cron.id)]
    assert ready(redis_client) == [once.id]
    assert sorted(waiting(redis_client)) == [cron.id, every.id]


@pytest.mark.parametrize("worker_class", ["CpuWorker", "IoWorker"])
def test_a_pickled_job_is_promoted_unread_and_its_worker_makes_it_a_dead_letter(
    redis_client: redis.Redis, processes: Processes, worker_class: str
) -> None:
    stock = Scheduler("ticks", connection=redis_client)
    stock.enqueue_in(timedelta(seconds=-5), "jobs.nowhere.run", 1, meta={"cron_string": "* * * * *"}, job_id="pickled")
    promotion(redis_client).tick(time.time())
    assert (ready(redis_client), waiting(redis_client)) == (["pickled"], {})
    processes.worker_class = worker_class
    processes.worker("ticks")
    wait_for(lambda: dead_letters.count(redis_client), LIMIT_S, "the worker makes it a dead letter")
    letter = dead_letters.get(redis_client, "pickled")
    assert (letter.queue, letter.args) == ("ticks", None)
    assert letter.error.startswith("the job's data is not a JSON call")
