"""Periodic jobs that clients of rq-scheduler registered, fired by ours. The clock is an argument, no test waits."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from rq_scheduler import Scheduler

from jobs import keys
from jobs.queue import dead_letters
from jobs.queue.job import JsonJob
from scheduler.foreign import FIRE, RESULT_TTL_S, Foreign
from scheduler.promote import Promotion

NOW = 1_800_000_000.0
"""A full hour."""
ADD = "operator.add"


def register(client: redis.Redis, job_id: str = "every", **options: Any) -> None:
    """By the stock client, due at NOW."""
    stock = Scheduler("ticks", connection=client, job_class=JsonJob)
    stock.schedule(datetime.fromtimestamp(NOW, UTC), ADD, [1, 2], id=job_id, **{"interval": 60, **options})


def register_cron(client: redis.Redis, cron_string: str, **meta: Any) -> None:
    register(client, "cron", interval=None, meta={"cron_string": cron_string, "use_local_timezone": False, **meta})


def tick(client: redis.Redis, now: float) -> dict[str, int]:
    counts = Promotion(client, lambda *_: {}, Foreign(client).due).tick(now)
    return {name: count for name, count in counts.items() if count}


def ready(client: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue("ticks"), 0, -1)]


def due(client: redis.Redis) -> dict[str, float]:
    return {job_id.decode(): due_at for job_id, due_at in client.zrange(keys.SCHEDULED_JOBS, 0, -1, withscores=True)}


def end(client: redis.Redis, status: str = "finished") -> None:
    """The last run ends."""
    job_id = ready(client)[-1]
    client.delete(keys.queue("ticks"))
    client.hset(keys.job(job_id), "status", status)


def fetch(client: redis.Redis, job_id: str) -> JsonJob:
    job: JsonJob = JsonJob.fetch(job_id, connection=client)
    return job


def test_each_fire_is_a_fresh_job_and_the_definition_stays(redis_client: redis.Redis) -> None:
    register(redis_client, meta={"note": 7}, timeout=33, queue_name="ticks", at_front=True, description="sum")
    assert tick(redis_client, NOW) == {"fired": 1}
    assert tick(redis_client, NOW) == {}
    run = f"cron-every-{NOW:.0f}"
    assert ready(redis_client) == [run]
    assert due(redis_client) == {"every": NOW + 60}
    job, definition = fetch(redis_client, run), fetch(redis_client, "every")
    assert (job.func_name, job.args, job.timeout, job.description, job.meta) == (ADD, [1, 2], 33, "sum", {"note": 7})
    assert (job.get_status().value, job.origin, job.created_at.timestamp()) == ("queued", "ticks", NOW)
    assert (definition.get_status().value, definition.meta) == ("scheduled", {"note": 7, "interval": 60})


def test_one_fire_time_runs_once_however_often_it_is_asked_for(redis_client: redis.Redis) -> None:
    register(redis_client)
    foreign = Foreign(redis_client)
    assert [foreign.due("every", NOW, NOW) for _ in range(3)] == [{"fired": 1}, {"late": 1}, {"late": 1}]
    assert foreign.due("every", NOW - 60, NOW) == {"late": 1}
    assert len(ready(redis_client)) == 1


def test_a_definition_that_was_registered_anew_in_the_meantime_is_not_overwritten(redis_client: redis.Redis) -> None:
    register(redis_client)
    places = [keys.job("every"), keys.SCHEDULED_JOBS]
    args = ["every", repr(NOW), repr(NOW), '{"interval": 30}', repr(NOW + 60), "cron-every-1", "{}", "{}", str(RESULT_TTL_S)]
    assert FIRE(redis_client, places, args) == b"late"
    assert (ready(redis_client), due(redis_client)) == ([], {"every": NOW})
    assert fetch(redis_client, "every").meta == {"interval": 60}


def test_missed_fires_are_one_run_and_the_next_one_does_not_drift(redis_client: redis.Redis) -> None:
    register(redis_client)
    assert tick(redis_client, NOW + 1000.5) == {"fired": 1}
    assert len(ready(redis_client)) == 1
    assert due(redis_client) == {"every": NOW + 1020}


@pytest.mark.parametrize("status", ["queued", "started", "scheduled"])
def test_a_run_that_has_not_ended_is_not_overlapped(redis_client: redis.Redis, status: str) -> None:
    register(redis_client)
    tick(redis_client, NOW)
    end(redis_client, status)
    assert tick(redis_client, NOW + 60) == {"skipped": 1}
    assert (ready(redis_client), due(redis_client)) == ([], {"every": NOW + 120})
    redis_client.hset(keys.job(f"cron-every-{NOW:.0f}"), "status", "failed")
    assert tick(redis_client, NOW + 120) == {"fired": 1}
    assert ready(redis_client) == [f"cron-every-{NOW + 120:.0f}"]


@pytest.mark.parametrize(("repeat", "runs"), [(3, 3), (1, 1), (0, 1), (None, 5)])
def test_it_runs_as_often_as_was_asked_for_and_then_leaves_nothing(
    redis_client: redis.Redis, repeat: int | None, runs: int
) -> None:
    register(redis_client, repeat=repeat)
    fired = 0
    for number in range(5):
        fired += tick(redis_client, NOW + 60 * number).get("fired", 0)
        if ready(redis_client):
            end(redis_client)
    assert fired == runs
    assert (due(redis_client) == {}) == (not redis_client.exists(keys.job("every"))) == (repeat is not None)


def test_a_fire_that_is_skipped_is_none_of_those_asked_for(redis_client: redis.Redis) -> None:
    register(redis_client, repeat=2)
    tick(redis_client, NOW)
    assert tick(redis_client, NOW + 60) == {"skipped": 1}
    end(redis_client)
    assert tick(redis_client, NOW + 120) == {"fired": 1}
    assert due(redis_client) == {}


def test_cron_fires_at_its_times_in_utc(redis_client: redis.Redis) -> None:
    register_cron(redis_client, "30 9 * * *")
    assert tick(redis_client, NOW) == {"fired": 1}
    assert due(redis_client) == {"cron": NOW + 1.5 * 3600}, "NOW is 08:00"


@pytest.mark.parametrize("cron_string", ["30 25 * * *", "0 0 31 2 *", "0 0 1 1 * 2027", "@reboot", "?"])
def test_a_cron_string_that_cannot_be_read_is_a_dead_letter_with_the_reason(redis_client: redis.Redis, cron_string: str) -> None:
    register_cron(redis_client, cron_string)
    register(redis_client)
    assert tick(redis_client, NOW) == {"unreadable": 1, "fired": 1}
    assert tick(redis_client, NOW) == {}
    letter = dead_letters.get(redis_client, "cron")
    assert (letter.queue, letter.error_type, cron_string in letter.error) == ("ticks", "Unreadable", True)
    assert due(redis_client) == {"every": NOW + 60}


@pytest.mark.parametrize(
    "meta", [{"interval": "often"}, {"interval": -5}, {"interval": 1e-300}, {"interval": 5, "repeat": "x"}, {"cron_string": 7}]
)
def test_a_meta_that_says_nonsense_is_a_dead_letter(redis_client: redis.Redis, meta: dict[str, Any]) -> None:
    register(redis_client, interval=None, meta=meta)
    tick(redis_client, NOW)
    assert dead_letters.get(redis_client, "every").error_type == "Unreadable"
    assert (ready(redis_client), due(redis_client)) == ([], {})


@pytest.mark.parametrize(("asked", "kept"), [(None, RESULT_TTL_S), (-1, RESULT_TTL_S), (1, 1), (200_000, 200_000)])
def test_the_runs_result_is_kept_as_asked_but_not_for_ever(redis_client: redis.Redis, asked: int | None, kept: int) -> None:
    register(redis_client, result_ttl=asked)
    redis_client.expire(keys.job("every"), 50)  # as a stock worker left it, which ran the definition itself
    tick(redis_client, NOW)
    assert fetch(redis_client, ready(redis_client)[0]).result_ttl == kept
    assert redis_client.ttl(keys.job("every")) == -1


def test_one_that_ran_under_a_stock_scheduler_goes_on_as_if_it_had_not(redis_client: redis.Redis) -> None:
    register(redis_client)
    redis_client.hset(keys.job("every"), mapping={"status": "failed", "worker_name": "w", "exc_info": "?", "failures": 3})
    assert tick(redis_client, NOW) == {"fired": 1}
    stored = redis_client.hgetall(keys.job(ready(redis_client)[0]))
    assert not {b"worker_name", b"exc_info", b"failures", b"last_job_id"} & stored.keys()
    assert fetch(redis_client, "every").get_status().value == "scheduled"


def test_one_that_was_cancelled_is_removed_and_fires_no_more(redis_client: redis.Redis) -> None:
    register(redis_client)
    fetch(redis_client, "every").cancel()
    assert tick(redis_client, NOW) == {"cancelled": 1}
    assert (ready(redis_client), due(redis_client)) == ([], {})


def test_a_queue_that_is_no_list_leaves_the_fire_for_later(redis_client: redis.Redis) -> None:
    register(redis_client)
    redis_client.set(keys.queue("ticks"), "?")
    assert tick(redis_client, NOW) == {}
    assert (due(redis_client), redis_client.keys("rq:job:cron-*")) == ({"every": NOW}, [])
    redis_client.delete(keys.queue("ticks"))
    assert tick(redis_client, NOW) == {"fired": 1}


def test_what_is_unreadable_beside_it_does_not_stop_it(redis_client: redis.Redis) -> None:
    register(redis_client)
    redis_client.hset(keys.job("every"), mapping={"last_job_id": "no-hash", "result_ttl": "often"})
    redis_client.set(keys.job("no-hash"), "?")
    assert tick(redis_client, NOW) == {"fired": 1}


def test_a_time_that_was_set_back_fires_again_under_another_id(redis_client: redis.Redis) -> None:
    register(redis_client)
    tick(redis_client, NOW)
    end(redis_client)
    redis_client.zadd(keys.SCHEDULED_JOBS, {"every": NOW})
    assert tick(redis_client, NOW) == {"fired": 1}
    assert ready(redis_client) == [f"cron-every-{NOW:.0f}-again"]


def test_a_time_within_a_second_has_an_id_of_its_own(redis_client: redis.Redis) -> None:
    register(redis_client)
    redis_client.zadd(keys.SCHEDULED_JOBS, {"every": NOW + 0.25})
    tick(redis_client, NOW + 1)
    assert ready(redis_client) == [f"cron-every-{NOW:.0f}_25"]


def test_arguments_and_meta_of_the_client_stay_as_they_were(redis_client: redis.Redis) -> None:
    stock = Scheduler("ticks", connection=redis_client, job_class=JsonJob)
    args = [1e22, 12345678901234567890, "ü\u2028", [], {}, None]
    stock.schedule(datetime.fromtimestamp(NOW, UTC), ADD, args, interval=60, id="every", meta={"list": [], "big": 2**70})
    tick(redis_client, NOW)
    run = fetch(redis_client, ready(redis_client)[0])
    assert (run.args, run.meta) == (args, {"list": [], "big": 2**70})
    assert json.loads(redis_client.hget(keys.job("every"), "meta")) == {"list": [], "big": 2**70, "interval": 60}
