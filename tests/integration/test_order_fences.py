"""The order scripts one by one: called twice, too late, out of order or under a lost lease, they write nothing."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import redis
from hands import Hands
from mall_floor import Floor
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import Permanent
from jobs.mall import steps
from jobs.mall.orders import Step
from jobs.queue.batches import NEXT
from jobs.queue.ending import Written
from jobs.queue.script import beside

NOW = 1_763_764_205.0
GUARD = keys.failed("packing")


def call(client: redis.Redis, name: str, names: Sequence[str], args: Sequence[Any]) -> Any:
    return beside(steps.__file__, name)(client, names, args)


def version(client: redis.Redis, order_id: str) -> int:
    return int(client.hget(keys.order(order_id), "version"))


def job_of(order_id: str, step: Step) -> list[str]:
    job = steps.step_spec(order_id, step, NOW)
    return [job.id, job.queue, job.fields]


def pick_end(client: redis.Redis, order_id: str, at_version: int, **needed: int) -> str:
    args = [order_id, at_version, repr(NOW), json.dumps(needed), *job_of(order_id, Step.PACK)]
    answer: bytes = call(client, "pick_end", [keys.order(order_id), keys.PICK_BUFFER], args)
    return answer.decode()


def pick_alone(client: redis.Redis, order_id: str, at_version: int) -> int:
    args = [order_id, at_version, repr(NOW), "no", *job_of(order_id, Step.PICK)]
    return int(call(client, "pick_alone", [keys.order(order_id), keys.PICK_BUFFER], args))


def pick_next(client: redis.Redis, job_id: str, following: str) -> Any:
    job = steps.pick_batch_spec(NOW)
    return NEXT(client, [keys.PICK_BUFFER, keys.PICK_JOB], [job_id, following, job.queue, job.fields, repr(NOW)])


def step_begin(client: redis.Redis, order_id: str, step: str, job_id: str = "j") -> Any:
    return call(client, "step_begin", [keys.order(order_id)], [order_id, step, job_id, 1, repr(NOW), "w"])


def step_end(client: redis.Redis, order_id: str, at_version: int) -> int:
    slip = json.dumps(["slip", "{}"])
    args = [order_id, at_version, repr(NOW), "delivering", "deliver", slip, "", *job_of(order_id, Step.DELIVER)]
    return int(call(client, "step_end", [keys.order(order_id)], args))


@pytest.fixture
def picking(hands: Hands, floor: Floor) -> str:
    """An order that is being picked; five of its SKU A are on hand."""
    floor.put("A", 5)
    order_id = floor.order(("A", 2))
    claim = hands.must_claim("picking")
    args = [claim.id, 10, repr(NOW), "w", 1]
    [[found, _version, _lines, _trace]] = call(floor.client, "pick_begin", [keys.PICK_JOB, keys.PICK_BUFFER], args)
    assert found.decode() == order_id
    return order_id


@pytest.fixture
def packing(hands: Hands, floor: Floor) -> str:
    """An order that waits to be packed."""
    floor.put("A", 5)
    order_id = floor.order(("A", 2))
    hands.work_off("picking")
    return order_id


# --- picking ---------------------------------------------------------------------------------


def test_only_the_batch_job_that_is_due_looks_at_the_buffer(redis_client: redis.Redis, floor: Floor) -> None:
    floor.order(("A", 1))
    before = snapshot(redis_client)
    args = ["another", 10, repr(NOW), "w", 1]
    assert call(redis_client, "pick_begin", [keys.PICK_JOB, keys.PICK_BUFFER], args) is None
    assert pick_next(redis_client, "another", "pick-2") is None
    assert changes(before, snapshot(redis_client)) == {}


def test_picking_reserves_and_hands_on_once(redis_client: redis.Redis, floor: Floor, picking: str) -> None:
    before, told = snapshot(redis_client), version(redis_client, picking)
    assert pick_end(redis_client, picking, told, A=2) == "packing"
    after = snapshot(redis_client)
    found = changes(before, after)
    assert found["turnstile:stock:A"] == ({"on_hand": "5"}, {"on_hand": "5", "reserved": "2"})
    assert found["turnstile:pick:buffer"] == ([picking], None)
    assert found["rq:queue:packing"] == (None, [f"{picking}-pack"])
    assert found["turnstile:orders:status:picking"][1] is None
    assert found["turnstile:orders:status:packing"] == (None, {picking: NOW})
    order = after[f"turnstile:order:{picking}"]
    assert (order["status"], order["step"], json.loads(order["reserved"])) == ("packing", "pack", {"A": 2})
    for late in (told, told + 1):
        assert pick_end(redis_client, picking, late, A=2) == "stale"
        assert pick_alone(redis_client, picking, late) == 0
    assert changes(after, snapshot(redis_client)) == {}
    floor.check_books()


def test_an_order_that_is_short_of_one_sku_reserves_none_and_names_all_that_are_missing(
    redis_client: redis.Redis, floor: Floor, picking: str
) -> None:
    floor.put("B", 0)
    floor.put("C", 1)
    told = version(redis_client, picking)
    assert pick_end(redis_client, picking, told, A=2, C=2, B=1, untracked=9) == "rejected"
    view = floor.view(picking)
    assert (view.status, view.reason, view.attempts[-1].error) == ("rejected", "out of stock: B, C", None)
    assert [floor.stock(sku) for sku in "ABC"] == [(5, 0), (0, 0), (1, 0)]
    after = snapshot(redis_client)
    assert pick_end(redis_client, picking, told, A=2) == "stale"
    assert changes(after, snapshot(redis_client)) == {}
    floor.check_books()


@pytest.mark.parametrize("late_by", [1, 2])
def test_a_picker_that_was_overtaken_writes_nothing(redis_client: redis.Redis, picking: str, late_by: int) -> None:
    before, now_at = snapshot(redis_client), version(redis_client, picking)
    assert pick_end(redis_client, picking, now_at - late_by, A=2) == "stale"
    assert pick_alone(redis_client, picking, now_at - late_by) == 0
    assert changes(before, snapshot(redis_client)) == {}


def test_an_order_leaves_its_batch_once(redis_client: redis.Redis, picking: str) -> None:
    told = version(redis_client, picking)
    assert pick_alone(redis_client, picking, told) == 1
    after = snapshot(redis_client)
    assert (after["rq:queue:picking"], after.get("turnstile:pick:buffer")) == ([f"{picking}-pick"], None)
    assert pick_alone(redis_client, picking, told) == 0
    assert pick_end(redis_client, picking, told, A=2) == "stale"
    assert changes(after, snapshot(redis_client)) == {}


def test_the_next_batch_job_is_enqueued_once_while_orders_wait(redis_client: redis.Redis, floor: Floor) -> None:
    floor.order(("A", 1))
    due = redis_client.get(keys.PICK_JOB).decode()
    assert pick_next(redis_client, due, "pick-2") == due.encode()
    after = snapshot(redis_client)
    assert (after["turnstile:pick:job"], after["rq:queue:picking"]) == ("pick-2", [due, "pick-2"])
    assert pick_next(redis_client, due, "pick-3") is None
    assert changes(after, snapshot(redis_client)) == {}


# --- the other steps -------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["pick", "deliver"])
def test_a_step_that_the_order_is_not_at_does_not_begin(redis_client: redis.Redis, packing: str, step: str) -> None:
    before = snapshot(redis_client)
    assert step_begin(redis_client, packing, step) == [0, b"packing"]
    assert step_begin(redis_client, "ord_none", step) == [0, b"unknown"]
    assert changes(before, snapshot(redis_client)) == {}


def test_an_end_of_another_step_that_has_the_same_version_changes_nothing(redis_client: redis.Redis, packing: str) -> None:
    """A worker that began the delivery in a time that Redis has forgotten."""
    version = step_begin(redis_client, packing, "pack")[0]
    before = snapshot(redis_client)
    args = [packing, version, repr(NOW), "delivered", "", '["tracking_number", "T"]', "consume", "", "", ""]
    assert call(redis_client, "step_end", [keys.order(packing)], args) == 0
    assert changes(before, snapshot(redis_client)) == {}
    assert step_end(redis_client, packing, version) == 1


def test_a_step_ends_once_and_only_for_the_worker_that_began_last(redis_client: redis.Redis, packing: str) -> None:
    first = step_begin(redis_client, packing, "pack")[0]
    second = step_begin(redis_client, packing, "pack")[0]
    before = snapshot(redis_client)
    assert step_end(redis_client, packing, first) == 0
    assert changes(before, snapshot(redis_client)) == {}
    assert step_end(redis_client, packing, second) == 1
    after = snapshot(redis_client)
    assert (after["rq:queue:delivery"], after[f"turnstile:order:{packing}"]["slip"]) == ([f"{packing}-deliver"], "{}")
    for late in (first, second):
        assert step_end(redis_client, packing, late) == 0
    assert step_begin(redis_client, packing, "pack") == [0, b"delivering"]
    assert changes(after, snapshot(redis_client)) == {}


# --- effects ---------------------------------------------------------------------------------


def effect(client: redis.Redis, name: str, order_id: str, *, job_id: str = "j", member: str = "") -> int:
    return int(call(client, "follow", [keys.order(order_id), GUARD], [name, order_id, job_id, "no", repr(NOW), member]))


@pytest.mark.parametrize("name", ["retried", "died", "redriven", "discarded"])
def test_an_effect_whose_guard_is_gone_writes_nothing(redis_client: redis.Redis, packing: str, name: str) -> None:
    if name in ("redriven", "discarded"):
        effect(redis_client, "died", packing)
    before = snapshot(redis_client)
    assert effect(redis_client, name, packing, member="j") == 0
    redis_client.zadd(GUARD, {"j": 1})
    assert effect(redis_client, name, packing, member="j") == 0, "the guard stands for a job that does not exist"
    redis_client.delete(GUARD)
    assert changes(before, snapshot(redis_client)) == {}


def test_an_order_dies_once_and_of_one_job(redis_client: redis.Redis, floor: Floor, packing: str) -> None:
    step_begin(redis_client, packing, "pack")
    assert effect(redis_client, "died", packing, job_id="j1") == 1
    after = snapshot(redis_client)
    order = after[f"turnstile:order:{packing}"]
    assert (order["status"], order["reason"], order["dead_job"]) == ("dead", "no", "j1")
    assert floor.view(packing).attempts[-1].error == "no"
    for job_id in ("j1", "j2"):
        assert effect(redis_client, "died", packing, job_id=job_id) == 0
    assert effect(redis_client, "retried", packing) == 0
    assert effect(redis_client, "redriven", packing, job_id="j2") == 0
    assert effect(redis_client, "discarded", packing, job_id="j2") == 0
    assert step_begin(redis_client, packing, "pack", job_id="j2") == [0, b"dead"]
    assert changes(after, snapshot(redis_client)) == {}
    floor.check_books()


def test_an_order_comes_back_once_and_can_then_not_be_discarded(redis_client: redis.Redis, floor: Floor, packing: str) -> None:
    effect(redis_client, "died", packing)
    assert effect(redis_client, "redriven", packing) == 1
    after = snapshot(redis_client)
    order = after[f"turnstile:order:{packing}"]
    assert (order["status"], order.get("reason"), order.get("dead_job")) == ("packing", None, None)
    assert effect(redis_client, "redriven", packing) == 0
    assert effect(redis_client, "discarded", packing) == 0
    assert changes(after, snapshot(redis_client)) == {}
    floor.check_books()


def test_a_discarded_order_gives_back_its_stock_once_and_never_comes_back(
    redis_client: redis.Redis, floor: Floor, packing: str
) -> None:
    effect(redis_client, "died", packing)
    assert floor.stock("A") == (5, 2)
    assert effect(redis_client, "discarded", packing) == 1
    assert floor.stock("A") == (5, 0)
    after = snapshot(redis_client)
    assert effect(redis_client, "discarded", packing) == 0
    assert effect(redis_client, "redriven", packing) == 0
    assert step_begin(redis_client, packing, "pack") == [0, b"dead"]
    assert changes(after, snapshot(redis_client)) == {}
    floor.check_books()


def test_a_failed_attempt_is_closed_with_its_error_and_moves_nothing(
    redis_client: redis.Redis, floor: Floor, packing: str
) -> None:
    step_begin(redis_client, packing, "pack")
    assert effect(redis_client, "retried", packing) == 1
    view = floor.view(packing)
    assert (view.status, view.attempts[-1].error, view.attempts[-1].ended_at) == ("packing", "no", NOW)
    effect(redis_client, "retried", packing)
    assert floor.view(packing).attempts == view.attempts
    floor.check_books()


@pytest.mark.parametrize("error", [ValueError("late"), Permanent("late")], ids=["retry", "death"])
@pytest.mark.parametrize("claimed_again", [False, True])
def test_the_effects_of_a_worker_whose_lease_was_taken_are_not_written_either(
    redis_client: redis.Redis, hands: Hands, floor: Floor, packing: str, error: Exception, claimed_again: bool
) -> None:
    old = hands.must_claim("packing")
    step_begin(redis_client, packing, "pack", old.id)
    hands.reclaim("packing")
    if claimed_again:
        hands.must_claim("packing")
    before = snapshot(redis_client)
    assert hands.fail(old, error) is Written.LEASE_LOST
    assert changes(before, snapshot(redis_client)) == {}
    assert floor.status(packing) == "packing"


@pytest.mark.parametrize("error", [ValueError("no"), Permanent("no")], ids=["retry", "death"])
def test_the_effects_of_an_ending_that_was_written_before_are_not_written_again(
    redis_client: redis.Redis, hands: Hands, floor: Floor, packing: str, error: Exception
) -> None:
    claim = hands.must_claim("packing")
    step_begin(redis_client, packing, "pack", claim.id)
    assert hands.fail(claim, error) is Written.NOW
    before = snapshot(redis_client)
    assert hands.fail(claim, error) is Written.BEFORE
    assert changes(before, snapshot(redis_client)) == {}
    floor.check_books()
