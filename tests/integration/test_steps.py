"""Orders through their steps: picked, packed and delivered once, whatever is repeated, late or killed."""

import itertools
import time

import pytest
import redis
from asking import Ask
from carriers import Carrier
from hands import Hands
from killing import Killer
from mall_floor import Floor
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import NotFound
from jobs.mall import carrier as carrier_module
from jobs.mall import order_store, reconcile
from jobs.queue import dead_letters
from jobs.settings import Settings

NOW = 1_763_764_205.0
STEPS = ("picking", "packing", "delivery")


# --- the steps -------------------------------------------------------------------------------


def test_an_order_goes_through_its_steps_and_is_delivered_once(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier
) -> None:
    floor.put("A", 5)
    order_id = floor.order(("A", 2), ("B", 1), ("A", 1), reference="536365", country="Norway")
    hands.work_off(*STEPS)
    view = floor.view(order_id)
    [booking] = near_carrier.bookings(order_id)
    assert (view.status, view.tracking_number) == ("delivered", booking["tracking_number"])
    assert booking["shipment"] == {
        "order_id": order_id,
        "reference": "536365",
        "country": "Norway",
        "items": 4,
        "weight_g": 950.0,
    }
    assert [(attempt.step, attempt.attempt, attempt.worker, attempt.error) for attempt in view.attempts] == [
        ("pick", 1, "hands", None),
        ("pack", 1, "hands", None),
        ("deliver", 1, "hands", None),
    ]
    assert all(attempt.ended_at is not None and attempt.ended_at >= attempt.started_at for attempt in view.attempts)
    assert floor.history(order_id) == ["accepted", "picking", "packing", "delivering", "delivered"]
    assert floor.stock("A") == (2, 0)
    assert redis_client.zcard(keys.ORDERS_OPEN) == 0
    floor.check_books()


@pytest.mark.parametrize("queue", STEPS)
def test_a_step_that_is_run_again_after_its_end_writes_nothing(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, queue: str
) -> None:
    floor.put("A", 5)
    order_id = floor.order(("A", 2))
    hands.work_off(*STEPS[: STEPS.index(queue)])
    claim = hands.must_claim(queue)
    hands.run(claim)
    before = snapshot(redis_client)
    hands.run(claim)
    assert changes(before, snapshot(redis_client)) == {}
    hands.work_off(*STEPS)
    hands.reclaim(queue)
    hands.work_off(*STEPS)
    assert floor.status(order_id) == "delivered"
    assert floor.stock("A") == (3, 0)
    floor.check_books()


def test_a_step_begun_again_closes_the_attempt_of_the_worker_that_was_lost(hands: Hands, floor: Floor, killer: Killer) -> None:
    order_id = floor.order(("A", 1))
    hands.work_off("picking")
    claim = hands.must_claim("packing")
    with killer.at(0, after=True):
        hands.run(claim)
    assert killer.struck
    assert floor.view(order_id).attempts[-1].ended_at is None
    hands.reclaim("packing")
    hands.work("packing")
    lost, good = floor.view(order_id).attempts[-2:]
    assert (lost.step, lost.attempt, lost.error) == ("pack", 1, "the worker was lost")
    assert (good.step, good.attempt, good.error) == ("pack", 1, None)


def test_a_worker_that_stood_still_ends_nothing_that_another_has_begun_again(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor.put("A", 5)
    order_id = floor.order(("A", 2))
    hands.work_off("picking", "packing")
    still = hands.must_claim("delivery")
    other = Hands(redis_client, "other")
    book = carrier_module.book

    def book_after_the_other(shipment: carrier_module.Shipment) -> str:
        with monkeypatch.context() as original:
            original.setattr(carrier_module, "book", book)
            hands.reclaim("delivery")
            assert other.work("delivery")
        return book(shipment)

    with monkeypatch.context() as slow:
        slow.setattr(carrier_module, "book", book_after_the_other)
        assert hands.run(still) == "moved on"
    before = snapshot(redis_client)
    assert hands.finish(still) == 0
    assert changes(before, snapshot(redis_client)) == {}
    assert len(near_carrier.bookings(order_id)) == 1
    assert (floor.status(order_id), floor.stock("A")) == ("delivered", (3, 0))
    floor.check_books()


def test_packing_writes_the_slip(hands: Hands, floor: Floor, ask: Ask) -> None:
    order_id = floor.order(("A", 2), ("B", 1))
    with pytest.raises(NotFound, match="packing slip"):
        ask(lambda client: order_store.slip(client, order_id))
    with pytest.raises(NotFound, match="no order"):
        ask(lambda client: order_store.slip(client, "ord_none"))
    hands.work_off("picking", "packing")
    slip = ask(lambda client: order_store.slip(client, order_id))
    assert (slip.order_id, slip.items, [line.sku for line in slip.lines]) == (order_id, 3, ["A", "B"])


# --- picking in batches ----------------------------------------------------------------------


def test_one_bad_order_of_a_batch_is_picked_alone_and_drags_no_other(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    good, bad, short, last = (floor.order((sku, 1)) for sku in ("A", "A", "none", "A"))
    floor.put("none", 0)
    redis_client.hset(keys.order(bad), "lines", "{")
    claim = hands.must_claim("picking")
    assert hands.run(claim) == {"packing": 2, "alone": 1, "rejected": 1}
    assert [floor.status(order_id) for order_id in (good, bad, short, last)] == ["packing", "picking", "rejected", "packing"]
    assert "cannot be read" in (floor.view(bad).attempts[-1].error or "")
    assert floor.view(short).reason == "out of stock: none"
    assert snapshot(redis_client)["rq:queue:picking"] == [f"{bad}-pick"]
    hands.finish(claim)
    hands.work_off("picking")
    assert floor.status(bad) == "dead"
    assert [letter.id for letter in dead_letters.page(redis_client, group=None, cursor=None, limit=9)[0]] == [f"{bad}-pick"]
    floor.check_books()


def test_a_batch_takes_as_many_orders_as_it_may_and_hands_over_to_the_next(
    redis_client: redis.Redis, hands: Hands, floor: Floor, settings: Settings
) -> None:
    ids = [floor.order(("A", 1)) for _ in range(settings.pick_batch + 3)]
    claim = hands.must_claim("picking")
    hands.run(claim)
    after = snapshot(redis_client)
    assert after["turnstile:pick:buffer"] == ids[settings.pick_batch :]
    assert after["rq:queue:picking"] == [after["turnstile:pick:job"]] != [claim.id]
    before = snapshot(redis_client)
    assert hands.run(claim) == {}, "the job has handed over: run again it touches nothing"
    assert changes(before, snapshot(redis_client)) == {}
    hands.finish(claim)
    hands.work_off("picking")
    assert floor.counts() == {"packing": len(ids)}
    floor.check_books()


def test_what_is_cancelled_while_its_batch_is_picked_is_not_picked(
    redis_client: redis.Redis, hands: Hands, floor: Floor, killer: Killer
) -> None:
    floor.put("A", 5)
    cancelled, kept = floor.order(("A", 2)), floor.order(("A", 2))
    claim = hands.must_claim("picking")
    with killer.at(0, after=True):
        hands.run(claim)
    floor.cancel(cancelled)
    hands.reclaim("picking")
    hands.work_off("picking")
    assert (floor.status(cancelled), floor.status(kept), floor.stock("A")) == ("cancelled", "packing", (5, 2))
    floor.check_books()


# --- kills -----------------------------------------------------------------------------------


def recover(hands: Hands) -> None:
    """What the scheduler does, as if all its time had come, and workers after it."""
    for _ in range(6):
        for queue in STEPS:
            hands.reclaim(queue)
        reconcile.reconcile(hands.client, now=time.time() + 100, after_s=1.0)
        hands.promote(*STEPS)
        hands.work_off(*STEPS)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_order_is_delivered_once_whichever_round_trip_its_worker_is_killed_at(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, killer: Killer, after: bool
) -> None:
    for round_trip in itertools.count():
        redis_client.flushall()
        floor.put("A", 5)
        order_id = floor.order(("A", 2), key=f"k{round_trip}")
        with killer.at(round_trip, after=after):
            hands.work_off(*STEPS)
        floor.check_books()
        recover(hands)
        assert floor.status(order_id) == "delivered", round_trip
        assert floor.history(order_id) == ["accepted", "picking", "packing", "delivering", "delivered"], round_trip
        assert len(near_carrier.bookings(order_id)) == 1
        assert floor.stock("A") == (3, 0)
        assert dead_letters.count(redis_client) == 0
        floor.check_books()
        if not killer.struck:
            break
    assert round_trip > 10


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_order_dies_once_whichever_round_trip_its_worker_is_killed_at(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, killer: Killer, after: bool
) -> None:
    for round_trip in itertools.count():
        redis_client.flushall()
        near_carrier.tell(mode="reject")
        floor.put("A", 5)
        order_id = floor.order(("A", 2), key=f"k{round_trip}")
        hands.work_off("picking", "packing")
        with killer.at(round_trip, after=after):
            hands.work_off("delivery")
        floor.check_books()
        recover(hands)
        assert floor.status(order_id) == "dead", round_trip
        assert [letter.id for letter in dead_letters.page(redis_client, group=None, cursor=None, limit=9)[0]] == [
            f"{order_id}-deliver"
        ]
        near_carrier.tell(mode="ok")
        dead_letters.redrive(redis_client, f"{order_id}-deliver")
        recover(hands)
        assert (floor.status(order_id), floor.stock("A")) == ("delivered", (3, 0))
        floor.check_books()
        if not killer.struck:
            break
    assert round_trip > 3
