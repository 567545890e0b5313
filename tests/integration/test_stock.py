"""Stock: never negative, never leaking, and a SKU that was never put is always available."""

import pytest
import redis
from asking import Ask
from carriers import Carrier
from hands import Hands
from mall_floor import Floor
from snapshots import changes, snapshot

from jobs.errors import Conflict, NotFound
from jobs.mall import stock
from jobs.mall.stock import Stock

STEPS = ("picking", "packing", "delivery")


def test_what_is_put_is_on_hand_and_available(redis_client: redis.Redis, floor: Floor) -> None:
    assert floor.put("A", 7) == Stock("A", 7, 0, 7)
    assert snapshot(redis_client) == {"turnstile:stock:A": {"on_hand": "7"}}
    before = snapshot(redis_client)
    floor.put("A", 7)
    assert changes(before, snapshot(redis_client)) == {}
    assert floor.put("A", 0) == Stock("A", 0, 0, 0)


def test_a_sku_that_was_never_put_is_not_tracked_and_always_available(
    redis_client: redis.Redis, hands: Hands, floor: Floor, ask: Ask
) -> None:
    order_id = floor.order(("A", 100_000))
    hands.work_off("picking")
    assert floor.status(order_id) == "packing"
    assert not redis_client.exists("turnstile:stock:A")
    with pytest.raises(NotFound, match="no stock of a tracked SKU with id 'A'"):
        ask(lambda client: stock.get(client, "A"))


def test_picking_reserves_delivery_consumes_and_nothing_is_left_over(hands: Hands, floor: Floor, near_carrier: Carrier) -> None:
    floor.put("A", 7)
    floor.order(("A", 2), ("A", 1))
    hands.work_off("picking")
    assert floor.put("A", 7) == Stock("A", 7, 3, 4)
    hands.work_off(*STEPS)
    assert floor.stock("A") == (4, 0)


def test_what_is_reserved_cannot_be_taken_away(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    floor.put("A", 7)
    floor.order(("A", 3))
    hands.work_off("picking")
    before = snapshot(redis_client)
    with pytest.raises(Conflict, match="3 of A are reserved by open orders: on_hand cannot be 2"):
        floor.put("A", 2)
    assert changes(before, snapshot(redis_client)) == {}
    assert floor.put("A", 3) == Stock("A", 3, 3, 0)


def test_orders_of_one_batch_share_what_is_there_and_the_rest_is_rejected(hands: Hands, floor: Floor) -> None:
    floor.put("A", 5)
    ids = [floor.order(("A", 2)) for _ in range(4)]
    hands.work_off("picking")
    assert [floor.status(order_id) for order_id in ids] == ["packing", "packing", "rejected", "rejected"]
    assert floor.stock("A") == (5, 4)
    floor.cancel(ids[0])
    assert floor.stock("A") == (5, 2)
    again = floor.order(("A", 3))
    hands.work_off("picking")
    assert (floor.status(again), floor.stock("A")) == ("packing", (5, 5))
    floor.check_books()


def test_a_sku_that_is_tracked_only_after_an_order_took_it_owes_nothing(
    hands: Hands, floor: Floor, near_carrier: Carrier
) -> None:
    floor.order(("A", 4))
    hands.work_off("picking")
    floor.put("A", 1)
    hands.work_off(*STEPS)
    assert floor.stock("A") == (1, 0)
    floor.check_books()
