"""Deliveries and the breaker: a broken carrier is left alone, no order loses an attempt, all are delivered in the end."""

import time

import pytest
import redis
from carriers import Carrier
from hands import Hands
from mall_floor import Floor
from processes import Processes

from jobs import keys
from jobs.errors import CircuitOpen
from jobs.mall.carrier import BREAKER
from jobs.queue import breaker
from jobs.queue.breaker import BreakerState, Circuit, Outcome

STEPS = ("picking", "packing", "delivery")
LIMIT_S = 30.0


def state(client: redis.Redis) -> BreakerState:
    [found] = breaker.states(client, time.time())
    return found


def trip(client: redis.Redis, at: float) -> None:
    """Many deliveries have failed at that time."""
    calls = [f"call{number}" for number in range(BREAKER.min_calls)]
    for call in calls:
        BREAKER.ask(client, call, at)
    for call in calls:
        BREAKER.report(client, call, Outcome.FAILED, at)


def work_off_deliveries(processes: Processes, carrier: Carrier) -> None:
    """A real worker does what is ready for delivery and goes."""
    worker = processes.worker("delivery", config="jobs.rq_config", options=("--burst",), CARRIER_URL=carrier.url)
    assert worker.ended(LIMIT_S) == 0, worker.output


@pytest.mark.parametrize(
    ("behaviour", "counted"),
    [
        ({"mode": "ok"}, (1, 0)),
        ({"mode": "fail", "status": 503}, (1, 1)),
        ({"mode": "fail", "status": 503, "retry_after_s": 40}, (1, 1)),
        ({"mode": "fail", "status": 408}, (1, 1)),
        ({"mode": "lose_reply"}, (1, 1)),
        ({"mode": "stall", "delay_s": 1.0}, (1, 1)),
        ({"mode": "reject", "status": 422}, (1, 0)),
        ({"mode": "fail", "status": 429, "retry_after_s": 1}, (0, 0)),
    ],
    ids=repr,
)
def test_what_the_carrier_answers_is_counted_as_what_it_is(
    redis_client: redis.Redis,
    hands: Hands,
    floor: Floor,
    near_carrier: Carrier,
    behaviour: dict[str, object],
    counted: tuple[int, int],
) -> None:
    floor.order(("A", 1))
    near_carrier.tell(times=1, **behaviour)
    hands.work_off(*STEPS)
    assert (state(redis_client).calls, state(redis_client).failures) == counted


def test_an_order_that_was_delivered_before_says_nothing_about_the_carrier(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier
) -> None:
    floor.order(("A", 1))
    hands.work_off("picking", "packing")
    claim = hands.must_claim("delivery")
    assert [hands.run(claim), hands.run(claim)] == ["delivered", "moved on"]
    assert state(redis_client).calls == 1


def test_a_carrier_that_fails_every_order_is_soon_left_alone(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier
) -> None:
    near_carrier.tell(mode="fail", status=503)
    orders = [floor.order(("A", 1)) for _ in range(BREAKER.min_calls + 1)]
    hands.work_off("picking", "packing")
    for _ in orders[1:]:
        assert hands.work("delivery")
    found = state(redis_client)
    assert (found.state, found.failures) == (Circuit.OPEN, BREAKER.min_calls)
    claim = hands.must_claim("delivery")
    with pytest.raises(CircuitOpen) as refusal:
        hands.run(claim)
    assert refusal.value.retry_at == found.retry_at
    assert [attempt.step for attempt in floor.view(claim.id.removesuffix("-deliver")).attempts] == ["pick", "pack"]


def test_a_job_that_meets_the_circuit_open_is_deferred_and_delivered_when_the_carrier_is_back(
    redis_client: redis.Redis, hands: Hands, floor: Floor, carrier: Carrier, processes: Processes
) -> None:
    floor.put("A", 5)
    order_id = floor.order(("A", 2))
    hands.work_off("picking", "packing")
    trip(redis_client, time.time())
    retry_at = state(redis_client).retry_at
    work_off_deliveries(processes, carrier)
    job = keys.job(f"{order_id}-deliver")
    assert redis_client.hmget(job, "status", "deferred", "failures", "attempts") == [b"scheduled", b"1", None, None]
    due_at = redis_client.zscore(keys.scheduled("delivery"), f"{order_id}-deliver")
    assert retry_at is not None and retry_at <= due_at < retry_at + BREAKER.open_s
    view = floor.view(order_id)
    assert (view.status, [attempt.step for attempt in view.attempts]) == ("delivering", ["pick", "pack"])
    assert not carrier.bookings(order_id)
    floor.check_books()

    redis_client.hset(keys.breaker("carrier"), "retry_at", repr(time.time()))  # its time has come
    hands.promote("delivery")
    work_off_deliveries(processes, carrier)
    view = floor.view(order_id)
    assert (view.status, [(attempt.step, attempt.attempt) for attempt in view.attempts[2:]]) == ("delivered", [("deliver", 1)])
    assert len(carrier.bookings(order_id)) == 1
    assert state(redis_client).state is Circuit.CLOSED
    floor.check_books()


def test_a_probe_that_fails_burns_one_attempt_and_keeps_all_others_waiting(
    redis_client: redis.Redis, hands: Hands, floor: Floor, carrier: Carrier, processes: Processes
) -> None:
    trip(redis_client, time.time() - BREAKER.open_s - 1)
    carrier.tell(mode="fail", status=503)
    orders = [floor.order(("A", 1)) for _ in range(5)]
    hands.work_off("picking", "packing")
    work_off_deliveries(processes, carrier)
    ids = [f"{order_id}-deliver" for order_id in orders]
    assert sorted(redis_client.hget(keys.job(job_id), "failures") or b"0" for job_id in ids) == [b"0"] * 4 + [b"1"]
    assert sum(int(redis_client.hget(keys.job(job_id), "deferred") or 0) for job_id in ids) == 4
    tries = [attempt for order_id in orders for attempt in floor.view(order_id).attempts if attempt.step == "deliver"]
    assert len(tries) == 1 and "503" in (tries[0].error or "")
    found = state(redis_client)
    assert (found.state, found.opened) == (Circuit.OPEN, 2)
