"""Delayed jobs that are somebody's: of orders, of periodic jobs, of stock clients. What operators may do to them."""

import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
from delayed_floor import HOUR, NOW, define, hold, later, promote, ready, walk
from hands import Hands
from mall_floor import Floor
from rq import Queue
from rq_scheduler import Scheduler
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import Conflict, NotFound
from jobs.queue import delayed
from jobs.queue.job import JsonJob


def test_a_delayed_order_can_be_started_now_but_is_cancelled_and_put_off_by_its_own_calls(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    order_id = floor.order(("A", 1), countdown_s=HOUR)
    job_id = f"{order_id}-start"
    assert [job.owned for job in delayed.page(redis_client, limit=9).scheduled] == [True]
    before = snapshot(redis_client)
    with pytest.raises(Conflict, match="POST /v1/orders"):
        delayed.cancel(redis_client, job_id, time.time(), by="ann")
    with pytest.raises(Conflict, match="POST /v1/orders"):
        delayed.reschedule(redis_client, job_id, time.time() + 60, time.time(), by="ann")
    assert changes(before, snapshot(redis_client)) == {}
    delayed.run_now(redis_client, job_id, time.time(), by="ann")
    hands.work_off("picking", "packing", "delivery")
    assert floor.history(order_id)[:3] == ["scheduled", "accepted", "picking"]
    floor.check_books()


def test_the_definition_of_a_periodic_job_is_not_to_be_touched_as_a_job(redis_client: redis.Redis) -> None:
    define(redis_client, NOW + 300)
    before = snapshot(redis_client)
    with pytest.raises(Conflict, match="pause"):
        delayed.run_now(redis_client, "cron-hourly", NOW, by="ann")
    with pytest.raises(Conflict, match="pause"):
        delayed.reschedule(redis_client, "cron-hourly", NOW + HOUR, NOW, by="ann")
    with pytest.raises(Conflict, match="pause"):
        delayed.cancel(redis_client, "cron-hourly", NOW, by="ann")
    assert changes(before, snapshot(redis_client)) == {}


def test_what_does_not_exist_is_not_found_and_leaves_no_trace(redis_client: redis.Redis) -> None:
    redis_client.zadd(keys.SCHEDULED_JOBS, {"gone": NOW})
    before = snapshot(redis_client)
    with pytest.raises(NotFound):
        delayed.run_now(redis_client, "gone", NOW, by="ann")
    with pytest.raises(NotFound):
        delayed.reschedule(redis_client, "gone", NOW + HOUR, NOW, by="ann")
    with pytest.raises(NotFound):
        delayed.cancel(redis_client, "gone", NOW, by="ann")
    assert changes(before, snapshot(redis_client)) == {}


def test_jobs_that_stock_clients_delayed_are_run_now_rescheduled_and_cancelled(redis_client: redis.Redis) -> None:
    stock = Scheduler("calm", connection=redis_client)
    stock.job_class = JsonJob
    queue = Queue("calm", connection=redis_client, job_class=JsonJob)
    ids = [stock.enqueue_in(timedelta(hours=1), later.path, number).id for number in range(3)]
    ids += [queue.enqueue_in(timedelta(hours=1), later.path, number).id for number in range(3)]
    assert set(walk(redis_client)) == set(ids)
    assert {job.task for job in delayed.page(redis_client, limit=9).scheduled} == {later.path}
    now = time.time()
    for run, moved, cancelled in (ids[:3], ids[3:]):
        delayed.run_now(redis_client, run, now, by="ann")
        assert delayed.reschedule(redis_client, moved, now + 60, now, by="ann").due_at == now + 60
        assert delayed.cancel(redis_client, cancelled, now, by="ann").status == "canceled"
    assert ready(redis_client) == [ids[0], ids[3]]
    promote(redis_client, now + 2 * HOUR)
    assert set(ready(redis_client)) == {ids[0], ids[3], ids[1], ids[4]}


def test_what_a_stock_client_made_periodic_is_rescheduled_but_not_taken_off_its_times(redis_client: redis.Redis) -> None:
    stock = Scheduler("calm", connection=redis_client)
    stock.job_class = JsonJob
    job_id = stock.schedule(datetime.now(UTC) + timedelta(hours=1), later.path, [1], interval=60).id
    now = time.time()
    with pytest.raises(Conflict, match="repeats"):
        delayed.run_now(redis_client, job_id, now, by="ann")
    assert delayed.reschedule(redis_client, job_id, now + 9, now, by="ann").due_at == now + 9


@pytest.mark.parametrize(
    ("meta", "runs"), [('{"interval" : 60}', False), ('{"note": "\\"interval\\":"}', True), ('{"deep": {"interval": 60}}', True)]
)
def test_a_stock_clients_job_is_periodic_for_operators_when_it_is_for_the_scheduler(
    redis_client: redis.Redis, meta: str, runs: bool
) -> None:
    hold(redis_client, "j1", NOW + HOUR)
    redis_client.hset(keys.job("j1"), "meta", meta)
    if runs:
        delayed.run_now(redis_client, "j1", NOW, by="ann")
        return
    with pytest.raises(Conflict, match="repeats"):
        delayed.run_now(redis_client, "j1", NOW, by="ann")
