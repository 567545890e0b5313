"""An unmodified `rq.Worker` runs the same jobs: the same retries, the same dead letters, the orders follow."""

import json
import signal
import time
from functools import partial

import pytest
import redis
import sample_tasks
from asking import Ask
from carriers import Carrier
from hands import Hands
from mall_floor import Floor
from processes import Processes, wait_for
from snapshots import snapshot

from jobs import keys
from jobs.mall import entries
from jobs.queue import dead_letters, overview
from jobs.queue.calling import enqueue
from jobs.settings import Settings

LIMIT_S = 30.0
STEPS = ("picking", "packing", "delivery")


@pytest.fixture(autouse=True)
def _environ(process_environ: dict[str, str], carrier: Carrier) -> None:
    process_environ.update(
        CARRIER_URL=carrier.url,
        TURNSTILE_STEP_MAX_ATTEMPTS="2",
        TURNSTILE_BACKOFF_BASE_S="50",
        TURNSTILE_BACKOFF_CAP_S="50",
    )


def wait_until(floor: Floor, order_id: str, wanted: str) -> None:
    wait_for(lambda: floor.status(order_id) == wanted, LIMIT_S, f"the order is {wanted}")


def is_waiting(client: redis.Redis, job_id: str) -> bool:
    """Whether the stock worker has put the job off to its next attempt."""
    return client.zscore(keys.scheduled("delivery"), job_id) is not None


def test_a_stock_worker_delivers_orders_and_counts_entries(
    redis_client: redis.Redis, processes: Processes, floor: Floor, carrier: Carrier, ask: Ask, settings: Settings
) -> None:
    floor.put("A", 5)
    floor.put("none", 0)
    delivered, rejected = floor.order(("A", 2)), floor.order(("none", 1))
    now = time.time()
    entry = entries.parse(json.dumps({"gate": "n", "event_id": "e"}).encode(), settings=settings, zone=settings.zone, now=now)
    ask(partial(entries.ingest, entries=[entry], settings=settings, now=now))
    worker = processes.stock_worker("entries", *STEPS, config="jobs.rq_config", options=("--name", "stock1"))
    wait_until(floor, delivered, "delivered")
    assert floor.status(rejected) == "rejected"
    view = floor.view(delivered)
    [booking] = carrier.bookings(delivered)
    assert view.tracking_number == booking["tracking_number"]
    seen = [(attempt.step, attempt.attempt, attempt.worker, attempt.error) for attempt in view.attempts]
    assert seen == [(step, 1, "stock1", None) for step in ("pick", "pack", "deliver")]
    assert floor.stock("A") == (3, 0)
    assert redis_client.hget(keys.ENTRIES, "counted") == b"1"
    floor.check_books()
    worker.send(signal.SIGTERM)
    assert worker.ended(LIMIT_S) == 0


def test_a_failed_step_is_tried_again_after_our_backoff_and_then_a_dead_letter_with_its_order(
    redis_client: redis.Redis, processes: Processes, hands: Hands, floor: Floor, carrier: Carrier
) -> None:
    floor.put("A", 5)
    order_id = floor.order(("A", 2))
    job_id = f"{order_id}-deliver"
    carrier.tell(mode="fail", status=503)
    processes.stock_worker(*STEPS, config="jobs.rq_config")
    wait_for(lambda: is_waiting(redis_client, job_id), LIMIT_S, "the job waits for its next attempt")
    due_in_s = redis_client.zscore(keys.scheduled("delivery"), job_id) - time.time()
    assert -5 < due_in_s < 51
    view = floor.view(order_id)
    assert (view.status, view.attempts[-1].attempt) == ("delivering", 1)
    assert (view.attempts[-1].error or "").startswith("carrier answered 503")
    assert snapshot(redis_client)[f"rq:job:{job_id}"]["failures"] == "1"
    floor.check_books()
    hands.promote("delivery")
    wait_until(floor, order_id, "dead")
    view = floor.view(order_id)
    assert [(attempt.step, attempt.attempt) for attempt in view.attempts[-2:]] == [("deliver", 1), ("deliver", 2)]
    assert view.reason == view.attempts[-1].error
    wait_for(lambda: redis_client.zscore(keys.failed("delivery"), job_id) is not None, LIMIT_S, "RQ lists the dead letter")
    letter = dead_letters.get(redis_client, job_id)
    assert [attempt.attempt for attempt in letter.attempts] == [1, 2]
    assert (letter.error_type, letter.task) == ("CarrierError", "orders.deliver")
    assert "rq:job:" + job_id + "!ttl" not in snapshot(redis_client), "a dead letter never expires"
    floor.check_books()
    carrier.tell(mode="ok")
    dead_letters.redrive(redis_client, job_id)
    wait_until(floor, order_id, "delivered")
    assert len(carrier.bookings(order_id)) == 1
    assert floor.stock("A") == (3, 0)
    floor.check_books()


def test_a_permanent_error_is_a_dead_letter_at_once(
    redis_client: redis.Redis, processes: Processes, floor: Floor, carrier: Carrier
) -> None:
    order_id = floor.order(("A", 2))
    carrier.tell(mode="reject", status=422)
    processes.stock_worker(*STEPS, config="jobs.rq_config")
    wait_until(floor, order_id, "dead")
    wait_for(lambda: redis_client.zcard(keys.failed("delivery")), LIMIT_S, "RQ lists the dead letter")
    letter = dead_letters.get(redis_client, f"{order_id}-deliver")
    assert (letter.error_type, len(letter.attempts)) == ("Permanent", 1)
    assert not is_waiting(redis_client, f"{order_id}-deliver")
    floor.check_books()


def test_what_a_stock_worker_put_off_our_worker_goes_on_with(
    redis_client: redis.Redis, processes: Processes, hands: Hands, floor: Floor, carrier: Carrier
) -> None:
    order_id = floor.order(("A", 2))
    carrier.tell(mode="fail", times=1)
    stock = processes.stock_worker(*STEPS, config="jobs.rq_config")
    wait_for(lambda: is_waiting(redis_client, f"{order_id}-deliver"), LIMIT_S, "the job waits for its next attempt")
    stock.kill()
    hands.promote("delivery")
    processes.worker(*STEPS, config="jobs.rq_config")
    wait_until(floor, order_id, "delivered")
    assert [attempt.attempt for attempt in floor.view(order_id).attempts if attempt.step == "deliver"] == [1, 2]
    floor.check_books()


def test_a_job_that_kills_the_stock_workers_horse_is_tried_again_and_burns_no_attempt_of_ours(
    redis_client: redis.Redis, processes: Processes
) -> None:
    enqueue(redis_client, sample_tasks.die.spec(job_id="poison"), now=time.time())
    worker = processes.stock_worker("default")
    wait_for(lambda: redis_client.zscore(keys.scheduled("default"), "poison") is not None, LIMIT_S, "RQ puts the job off")
    job = snapshot(redis_client)["rq:job:poison"]
    assert (job["status"], job["retries_left"], job.get("failures")) == ("scheduled", "2", None)
    assert worker.runs


def test_attempts_that_follow_each_other_at_once_are_all_recorded(redis_client: redis.Redis, processes: Processes) -> None:
    enqueue(redis_client, sample_tasks.fail.spec("no", job_id="j1"), now=time.time())
    processes.stock_worker("default")
    wait_for(lambda: redis_client.zscore(keys.failed("default"), "j1") is not None, LIMIT_S, "RQ lists the dead letter")
    letter = dead_letters.get(redis_client, "j1")
    assert [(attempt.attempt, attempt.error) for attempt in letter.attempts] == [(1, "no"), (2, "no"), (3, "no")]
    assert [queue.failed for queue in overview.queues(redis_client, time.time())] == [1]


def test_a_stock_worker_makes_as_many_attempts_as_the_task_says(
    redis_client: redis.Redis, processes: Processes, process_environ: dict[str, str], floor: Floor, carrier: Carrier
) -> None:
    process_environ.update(TURNSTILE_STEP_MAX_ATTEMPTS="6", TURNSTILE_BACKOFF_BASE_S="0", TURNSTILE_BACKOFF_CAP_S="0")
    order_id = floor.order(("A", 2))
    carrier.tell(mode="fail", status=503)
    processes.stock_worker(*STEPS, config="jobs.rq_config")
    wait_until(floor, order_id, "dead")
    tried = [attempt.attempt for attempt in floor.view(order_id).attempts if attempt.step == "deliver"]
    assert tried == [1, 2, 3, 4, 5, 6]
    floor.check_books()
