"""rq-scheduler's API as ours answers it."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from rq import Callback
from rq_scheduler import Scheduler

from jobs import keys
from jobs.queue import calling, task
from jobs.queue.job import JsonJob
from jobs.queue.periodic import Periodic
from scheduler.periodic import Registration
from scheduler.scheduler import TurnstileScheduler

ADD = "operator.add"
LATER = datetime(2100, 1, 1, 0, 0, 0, 250_000)
LATER_AT = LATER.replace(tzinfo=UTC).timestamp()


@task.task(name="test.tack", queue="ticks", result_ttl_s=600)
def tack() -> None:
    """What the table's periodic job runs."""


@pytest.fixture
def client(redis_client: redis.Redis) -> TurnstileScheduler:
    """Ours, used as a client."""
    return TurnstileScheduler("ticks", connection=redis_client)


def due(client: redis.Redis) -> dict[str, float]:
    return {job_id.decode(): due_at for job_id, due_at in client.zrange(keys.SCHEDULED_JOBS, 0, -1, withscores=True)}


def ready(client: redis.Redis, queue: str = "ticks") -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue(queue), 0, -1)]


def test_every_option_of_rq_scheduler_is_the_jobs_and_every_other_keyword_its_functions(
    client: TurnstileScheduler, redis_client: redis.Redis
) -> None:
    options = {"timeout": 5, "job_id": "mine", "job_ttl": 60, "job_result_ttl": 70, "job_description": "sum", "at_front": True}
    callbacks = {name: Callback("jobs.nowhere.call") for name in ("on_success", "on_failure", "on_stopped")}
    client.enqueue_at(LATER, ADD, 1, b=2, queue_name="others", meta={"note": 1}, **options, **callbacks)
    job = JsonJob.fetch("mine", connection=redis_client)
    assert (job.func_name, job.args, job.kwargs, job.origin, job.meta) == (ADD, [1], {"b": 2}, "others", {"note": 1})
    assert (job.timeout, job.ttl, job.result_ttl, job.description, job.enqueue_at_front) == (5, 60, 70, "sum", True)
    assert job.get_status().value == "scheduled"
    assert {job._success_callback_name, job._failure_callback_name, job._stopped_callback_name} == {"jobs.nowhere.call"}
    assert due(redis_client) == {"mine": LATER_AT}


def test_times_may_be_naive_utc_or_of_any_zone_and_are_given_back(client: TurnstileScheduler) -> None:
    aware = LATER.replace(tzinfo=UTC).astimezone(datetime.now().astimezone().tzinfo)
    for moment in (LATER, aware):
        client.enqueue_at(moment, ADD, 1, 2)
    assert [moment for _job, moment in client.get_jobs(with_times=True)] == [LATER, LATER]
    before = time.time()
    job = client.enqueue_in(timedelta(seconds=0.5), ADD, 1, 2)
    assert before + 0.5 <= due(client.connection)[job.id] <= time.time() + 0.5


def test_jobs_are_listed_and_counted_until_a_time(client: TurnstileScheduler, redis_client: redis.Redis) -> None:
    names = [client.enqueue_at(LATER + timedelta(seconds=number), ADD, 1, 2, job_id=f"j{number}").id for number in range(4)]
    past = client.enqueue_at(datetime(2020, 1, 1), ADD, 1, 2)
    until = (LATER + timedelta(seconds=1), LATER_AT + 1, LATER - datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=1.5))
    for limit in until:
        assert [job.id for job in client.get_jobs(limit)] == [past.id, *names[:2]]
        assert client.count(limit) == 3
    assert [job.id for job in client.get_jobs(offset=1, length=2)] == names[:2]
    assert [job.id for job in client.get_jobs_to_queue()] == [past.id]
    assert client.count() == 5


def test_what_cannot_be_read_is_left_out_of_the_list_and_left_alone(
    client: TurnstileScheduler, redis_client: redis.Redis
) -> None:
    good = client.enqueue_at(LATER, ADD, 1, 2)
    redis_client.hset(keys.job(client.enqueue_at(LATER, ADD, 1, 2).id), "status", "nonsense")
    redis_client.rpush(keys.job("no-hash"), "?")
    redis_client.zadd(keys.SCHEDULED_JOBS, {"no-hash": 1.0, "gone": 1.0})
    assert [job.id for job in client.get_jobs()] == [good.id]
    assert client.count() == 4


def test_a_time_is_changed_only_while_the_job_waits(client: TurnstileScheduler, redis_client: redis.Redis) -> None:
    job = client.enqueue_in(timedelta(hours=1), ADD, 1, 2)
    for _ in range(2):
        client.change_execution_time(job, LATER)
        assert due(redis_client) == {job.id: LATER_AT}
    client.enqueue_job(job)
    assert (ready(redis_client), due(redis_client)) == ([job.id], {})
    with pytest.raises(ValueError, match="not in scheduled jobs"):
        client.change_execution_time(job, LATER)
    assert due(redis_client) == {}


def test_a_cancelled_job_leaves_the_set_and_its_id_may_be_used_again(
    client: TurnstileScheduler, redis_client: redis.Redis
) -> None:
    job = client.enqueue_at(LATER, ADD, 1, 2, job_id="mine")
    assert job in client and "mine" in client
    client.cancel(job)
    client.cancel("mine")
    assert job not in client
    assert redis_client.hget(keys.job("mine"), "status") == b"canceled"
    assert redis_client.ttl(keys.job("mine")) > 0
    client.enqueue_at(LATER, ADD, 1, 2, job_id="mine")
    assert redis_client.ttl(keys.job("mine")) == -1
    assert redis_client.hget(keys.job("mine"), "status") == b"scheduled"


def test_clearing_everything_at_boot_spares_what_is_not_a_clients(
    client: TurnstileScheduler, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    Registration(redis_client, [Periodic("nightly", tack, "0 0 * * *")]).tick(time.time())
    calling.enqueue(redis_client, tack.spec(job_id="of-an-order", now=0.0), now=0.0, due_at=LATER_AT)
    redis_client.hset(keys.job("of-an-order"), "owned", "1")
    client.schedule(LATER, ADD, [1, 2], interval=60, id="stock")
    redis_client.hset(keys.job("stock"), "status", "finished")  # the definition itself ran, under a stock scheduler
    client.enqueue_at(LATER, ADD, 1, 2)
    redis_client.zadd(keys.SCHEDULED_JOBS, {"gone": 1.0})
    for job in client.get_jobs():
        client.cancel(job)
    client.cancel("gone")
    assert sorted(due(redis_client)) == ["cron-nightly", "of-an-order"]
    assert capsys.readouterr().out.count("not cancelled") == 2


def test_a_periodic_job_registered_again_keeps_its_time_and_the_count_of_its_runs(
    client: TurnstileScheduler, redis_client: redis.Redis
) -> None:
    def register(**options: Any) -> str:
        job_id: str = client.schedule(datetime(2026, 1, 1), ADD, [1, 2], interval=3600, repeat=3, **options).id
        return job_id

    first = register(timeout=5)
    client.enqueue_jobs()
    before = due(redis_client)
    assert register(timeout=6) == first
    assert due(redis_client) == before
    stored = JsonJob.fetch(first, connection=redis_client)
    assert (stored.meta, stored.timeout) == ({"interval": 3600, "repeat": 2}, 6)
    assert len({first, register(queue_name="others"), client.schedule(LATER, ADD, [1, 3], interval=3600, repeat=3).id}) == 3


def test_a_periodic_job_with_an_id_is_replaced(client: TurnstileScheduler, redis_client: redis.Redis) -> None:
    client.cron("0 12 * * *", ADD, [1, 2], id="mine", repeat=9)
    client.schedule(LATER, ADD, [3, 4], interval=1.5, id="mine")
    assert due(redis_client) == {"mine": LATER_AT}
    stored = JsonJob.fetch("mine", connection=redis_client)
    assert (stored.args, stored.meta, stored.result_ttl) == ([3, 4], {"interval": 1.5}, -1)


def test_times_that_make_no_sense_are_refused_when_they_are_given(client: TurnstileScheduler, redis_client: redis.Redis) -> None:
    with pytest.raises(ValueError, match="cron string"):
        client.cron("0 25 * * *", ADD)
    with pytest.raises(ValueError, match="interval"):
        client.schedule(LATER, ADD, repeat=2)
    with pytest.raises(ValueError, match="interval"):
        client.schedule(LATER, ADD, interval=-60)
    assert redis_client.dbsize() == 0


def test_a_stock_scheduler_serves_what_our_client_registered(client: TurnstileScheduler, redis_client: redis.Redis) -> None:
    client.schedule(datetime(2026, 1, 1), ADD, [1, 2], interval=3600, id="every", repeat=2)
    client.enqueue_at(datetime(2026, 1, 1), ADD, 1, 2, job_id="once")
    Scheduler("ticks", connection=redis_client, job_class=JsonJob).enqueue_jobs()
    assert ready(redis_client) == ["every", "once"]
    assert list(due(redis_client)) == ["every"]


def test_many_due_jobs_are_promoted_by_one_call(client: TurnstileScheduler, redis_client: redis.Redis) -> None:
    with redis_client.pipeline(transaction=False) as pipeline:
        for number in range(2_000):
            pipeline.hset(keys.job(f"j{number}"), mapping={"status": "scheduled", "origin": "ticks", "data": "[]"})
            pipeline.zadd(keys.SCHEDULED_JOBS, {f"j{number}": 1.0})
        pipeline.execute()
    client.enqueue_jobs()
    assert len(ready(redis_client)) == 2_000
