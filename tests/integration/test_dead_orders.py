"""Dead letters of orders: the order dies with its job, comes back at the step that failed, or gives back its stock."""

import time
from collections.abc import Callable

import pytest
import redis
from hands import Hands
from mall_floor import Floor
from processes import Processes
from rq import Queue
from rq.serializers import JSONSerializer
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import NotFound, Permanent
from jobs.queue import dead_letters, ending
from jobs.queue.script import QUEUE_DIR, script

REDRIVE = script(QUEUE_DIR / "redrive.lua")
DISCARD = script(QUEUE_DIR / "discard.lua")
NOW = 1_763_764_205.0


QUEUES = {"pick": "picking", "pack": "packing", "deliver": "delivery"}


def dead_at(hands: Hands, floor: Floor, step: str) -> str:
    """An order that died at the step; five of its SKU A are reserved once it has been picked."""
    order_id = floor.order(("A", 5))
    steps = list(QUEUES)
    hands.work_off(*(QUEUES[before] for before in steps[: steps.index(step)]))
    field = "slip" if step == "deliver" else "lines"
    good = floor.client.hget(keys.order(order_id), field)
    floor.client.hset(keys.order(order_id), field, "{")
    hands.work_off(QUEUES[step])
    floor.client.hset(keys.order(order_id), field, good)
    return order_id


@pytest.mark.parametrize(("step", "status"), [("pick", "picking"), ("pack", "packing"), ("deliver", "delivering")])
def test_the_order_dies_with_its_job_and_goes_on_at_the_step_that_failed(
    redis_client: redis.Redis, hands: Hands, floor: Floor, step: str, status: str
) -> None:
    floor.put("A", 9)
    order_id = dead_at(hands, floor, step)
    view = floor.view(order_id)
    assert (view.status, view.step) == ("dead", step)
    assert view.attempts[-1].step == step
    assert view.reason == view.attempts[-1].error
    assert view.reason is not None and "cannot be read" in view.reason
    held = 0 if step == "pick" else 5
    assert floor.stock("A") == (9, held)
    floor.check_books()
    job_id = f"{order_id}-{step}"
    dead_letters.redrive(redis_client, job_id)
    view = floor.view(order_id)
    assert (view.status, view.reason) == (status, None)
    floor.check_books()
    before = snapshot(redis_client)
    with pytest.raises(NotFound):
        dead_letters.redrive(redis_client, job_id)
    assert changes(before, snapshot(redis_client)) == {}
    assert hands.work(QUEUES[step])
    assert (floor.view(order_id).attempts[-1].attempt, floor.view(order_id).attempts[-1].step) == (1, step)
    floor.check_books()


@pytest.mark.parametrize(("step", "held"), [("pick", 0), ("pack", 5), ("deliver", 5)])
def test_discarding_an_orders_job_leaves_it_dead_for_good_and_gives_back_its_stock(
    redis_client: redis.Redis, hands: Hands, floor: Floor, step: str, held: int
) -> None:
    floor.put("A", 9)
    order_id = dead_at(hands, floor, step)
    assert floor.stock("A") == (9, held)
    dead_letters.discard(redis_client, f"{order_id}-{step}")
    assert (floor.status(order_id), floor.stock("A")) == ("dead", (9, 0))
    assert not redis_client.hexists(keys.order(order_id), "dead_job")
    floor.check_books()
    before = snapshot(redis_client)
    with pytest.raises(NotFound):
        dead_letters.discard(redis_client, f"{order_id}-{step}")
    assert changes(before, snapshot(redis_client)) == {}


def test_a_redriven_job_may_die_and_be_redriven_again(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    order_id = dead_at(hands, floor, "pack")
    for number in range(3):
        dead_letters.redrive(redis_client, f"{order_id}-pack")
        claim = hands.must_claim("packing")
        assert claim.attempt == 1
        hands.fail(claim, Permanent(f"no {number}"))
        assert floor.view(order_id).reason == f"no {number}"
    assert dead_letters.get(redis_client, f"{order_id}-pack").redrives == 3
    floor.check_books()


def test_an_order_whose_job_killed_three_workers_is_dead_with_the_reason_and_can_be_redriven(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    order_id = floor.order(("A", 1))
    hands.work_off("picking")
    for _ in range(3):
        hands.must_claim("packing")
        _reclaimed, poison, _ghosts = hands.reclaim("packing")
    assert [ending.bury_crashed(redis_client, "packing", member, time.time()) for member in poison] == [1]
    view = floor.view(order_id)
    assert (view.status, view.reason) == ("dead", "its worker died 3 times in a row while it ran; no attempt was burned")
    floor.check_books()
    dead_letters.redrive(redis_client, f"{order_id}-pack")
    hands.work_off("packing")
    assert floor.status(order_id) == "delivering"


def test_what_was_requeued_with_rqs_own_command_goes_on_as_well(
    redis_client: redis.Redis, hands: Hands, floor: Floor, processes: Processes, redis_url: str
) -> None:
    order_id = dead_at(hands, floor, "pack")
    assert floor.status(order_id) == "dead"
    command = processes.start("rq", "requeue", "-u", redis_url, "-S", "json", "--queue", "packing", f"{order_id}-pack")
    assert command.ended(20) == 0, command.output
    assert snapshot(redis_client)["rq:queue:packing"] == [f"{order_id}-pack"]
    assert hands.work("packing")
    assert floor.status(order_id) == "delivering"
    floor.check_books()
    registry = Queue("packing", connection=redis_client, serializer=JSONSerializer).failed_job_registry
    assert registry.get_job_ids(cleanup=False) == []


@pytest.mark.parametrize("what", [dead_letters.redrive, dead_letters.discard])
def test_what_somebody_requeued_with_rq_is_no_dead_letter_any_more(
    redis_client: redis.Redis, hands: Hands, floor: Floor, what: Callable[[redis.Redis, str], None]
) -> None:
    floor.put("A", 9)
    order_id = dead_at(hands, floor, "pack")
    Queue("packing", connection=redis_client, serializer=JSONSerializer).failed_job_registry.requeue(f"{order_id}-pack")
    before = snapshot(redis_client)
    with pytest.raises(NotFound):
        what(redis_client, f"{order_id}-pack")
    assert all(key.startswith(keys.DEAD) for key in changes(before, snapshot(redis_client))), "only the index"
    hands.work_off("packing")
    assert (floor.status(order_id), floor.stock("A")) == ("delivering", (9, 5))


def test_a_job_of_an_order_that_a_stock_client_enqueued_by_keyword_dies_with_its_order(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    order_id = floor.order(("A", 1))
    hands.work_off("picking")
    redis_client.hset(f"rq:job:{order_id}-pack", "data", f'["jobs.mall.steps.pack", null, [], {{"order_id": "{order_id}"}}]')
    hands.fail(hands.must_claim("packing"), Permanent("no such street"))
    assert floor.status(order_id) == "dead"
    dead_letters.redrive(redis_client, f"{order_id}-pack")
    assert floor.status(order_id) == "packing"


def test_a_job_whose_arguments_name_no_order_dies_alone(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    order_id = floor.order(("A", 1))
    hands.work_off("picking")
    redis_client.hset(f"rq:job:{order_id}-pack", "data", '["jobs.mall.steps.pack", null, [], {}]')
    assert hands.fail(hands.must_claim("packing"), TypeError("order_id is missing")) == 1
    assert hands.promote("packing") == 1
    assert hands.fail(hands.must_claim("packing"), Permanent("order_id is missing")) == 1
    dead_letters.redrive(redis_client, f"{order_id}-pack")
    hands.fail(hands.must_claim("packing"), Permanent("order_id is missing"))
    dead_letters.discard(redis_client, f"{order_id}-pack")
    floor.check_books()


def test_nothing_of_an_order_changes_when_its_job_was_deleted_while_it_ran(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    order_id = floor.order(("A", 1))
    hands.work_off("picking")
    claim = hands.must_claim("packing")
    redis_client.delete(f"rq:job:{order_id}-pack")
    before = snapshot(redis_client)
    assert hands.fail(claim, Permanent("no such street")) == 0
    assert set(changes(before, snapshot(redis_client))) == {"rq:wip:packing"}
    assert floor.status(order_id) == "packing", "an order is not dead without a dead letter that leads back"
