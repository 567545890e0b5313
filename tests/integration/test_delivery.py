"""Delivery: whatever the carrier does, a parcel is booked once, and what cannot be booked is a dead letter."""

import time

import pytest
import redis
from carriers import Carrier
from hands import Hands
from mall_floor import Floor

from jobs import keys
from jobs.settings import Settings

NOW = 1_763_764_205.0
STEPS = ("picking", "packing", "delivery")


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        ({"mode": "fail", "times": 1}, "carrier answered 503: "),
        ({"mode": "fail", "times": 1, "status": 429}, "carrier answered 429: "),
        ({"mode": "fail", "times": 1, "status": 408}, "carrier answered 408: "),
        ({"mode": "lose_reply", "times": 1}, "carrier: RemoteProtocolError"),
        ({"mode": "stall", "times": 1, "delay_s": 1.0}, "carrier: ReadTimeout"),
    ],
)
def test_a_passing_fault_of_the_carrier_is_retried_and_books_once(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, behaviour: dict[str, object], error: str
) -> None:
    floor.put("A", 5)
    order_id = floor.order(("A", 2))
    near_carrier.tell(**behaviour)
    hands.work_off(*STEPS)
    view = floor.view(order_id)
    assert view.status == "delivering"
    assert (view.attempts[-1].error or "").startswith(error)
    assert redis_client.zcard(keys.scheduled("delivery")) == 1
    floor.check_books()
    hands.promote("delivery")
    hands.work_off("delivery")
    view = floor.view(order_id)
    assert [(attempt.step, attempt.attempt) for attempt in view.attempts[-2:]] == [("deliver", 1), ("deliver", 2)]
    [booking] = near_carrier.bookings(order_id)
    assert (view.status, view.tracking_number) == ("delivered", booking["tracking_number"])
    floor.check_books()


def test_the_carriers_wish_to_wait_is_kept(redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier) -> None:
    order_id = floor.order(("A", 1))
    near_carrier.tell(mode="fail", status=503, retry_after_s=40)
    asked_at = time.time()
    hands.work_off(*STEPS)
    assert redis_client.zscore(keys.scheduled("delivery"), f"{order_id}-deliver") >= asked_at + 40


def test_a_refusal_of_the_carrier_is_the_end_at_once(hands: Hands, floor: Floor, near_carrier: Carrier) -> None:
    order_id = floor.order(("A", 1))
    near_carrier.tell(mode="reject", status=422)
    hands.work_off(*STEPS)
    view = floor.view(order_id)
    assert view.status == "dead"
    assert (view.reason or "").startswith("carrier answered 422: ")
    assert len(view.attempts) == 3
    floor.check_books()


def test_an_order_whose_carrier_never_answers_dies_after_its_last_attempt_with_every_error_on_it(
    redis_client: redis.Redis, hands: Hands, floor: Floor, settings: Settings
) -> None:
    floor.put("A", 5)
    order_id = floor.order(("A", 2))
    hands.work_off("picking", "packing")
    for number in range(1, settings.step_max_attempts + 1):
        assert floor.status(order_id) == "delivering"
        assert hands.work("delivery")
        assert hands.promote("delivery") == (number < settings.step_max_attempts)
    view = floor.view(order_id)
    tried = [attempt for attempt in view.attempts if attempt.step == "deliver"]
    assert [attempt.attempt for attempt in tried] == list(range(1, settings.step_max_attempts + 1))
    assert all((attempt.error or "").startswith("carrier: ConnectError") for attempt in tried)
    assert (view.status, view.reason) == ("dead", tried[-1].error)
    assert floor.stock("A") == (5, 2), "what it holds is given back when its dead letter is discarded"
    floor.check_books()
