"""Reconciliation: what is accepted has something that leads on, or gets it; where all is well, nothing is written."""

import json
import time
from functools import partial

import pytest
import redis
from asking import Ask
from hands import Hands
from mall_floor import Floor
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import Permanent
from jobs.mall import entries, reconcile
from jobs.mall.orders import Step
from jobs.mall.reconcile import HEAL_ORDER
from jobs.queue import dead_letters
from jobs.settings import Settings

QUEUES = {"pick": "picking", "pack": "packing", "deliver": "delivery"}


def heal(client: redis.Redis, after_s: float = 5.0) -> list[str]:
    """One pass, a minute from now."""
    return reconcile.reconcile(client, now=time.time() + 60, after_s=after_s)


def quiet(client: redis.Redis) -> None:
    """A pass finds nothing to do and writes nothing."""
    before = snapshot(client)
    assert heal(client) == []
    assert changes(before, snapshot(client)) == {}


def lose(client: redis.Redis, queue: str) -> str:
    """Takes the only ready job out of its queue and leaves its hash; returns its id."""
    [job_id] = client.lrange(keys.queue(queue), 0, -1)
    client.delete(keys.queue(queue))
    found: str = job_id.decode()
    return found


@pytest.fixture
def _an_entry(ask: Ask, redis_client: redis.Redis, settings: Settings) -> None:
    now = time.time()
    entry = entries.parse(json.dumps({"gate": "n", "event_id": "e"}).encode(), settings=settings, zone=settings.zone, now=now)
    ask(partial(entries.ingest, entries=[entry], settings=settings, now=now))


def at(hands: Hands, floor: Floor, step: str) -> str:
    """An order whose next job is the step's."""
    order_id = floor.order(("A", 1))
    hands.work_off(*list(QUEUES.values())[: list(QUEUES).index(step)])
    return order_id


# --- buffers ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("_an_entry")
@pytest.mark.parametrize("hash_too", [False, True])
def test_events_whose_count_job_was_lost_get_another_one(redis_client: redis.Redis, hands: Hands, hash_too: bool) -> None:
    quiet(redis_client)
    lost = lose(redis_client, "entries")
    if hash_too:
        redis_client.delete(keys.job(lost))
    [said] = heal(redis_client)
    assert said.startswith(f"turnstile:entries:buffer: job {lost} was lost, count-")
    quiet(redis_client)
    hands.work_off("entries")
    assert redis_client.hget(keys.ENTRIES, "counted") == b"1"
    quiet(redis_client)


@pytest.mark.usefixtures("_an_entry")
@pytest.mark.parametrize("place", ["ready", "delayed", "claimed"])
def test_events_whose_count_job_is_an_entry_without_a_hash_get_another_one(
    redis_client: redis.Redis, hands: Hands, place: str
) -> None:
    if place == "claimed":
        job_id = hands.must_claim("entries").id
    else:
        job_id = redis_client.lrange(keys.queue("entries"), 0, -1)[0].decode()
    if place == "delayed":
        redis_client.delete(keys.queue("entries"))
        redis_client.zadd(keys.scheduled("entries"), {job_id: time.time() + 500})
    redis_client.delete(keys.job(job_id))
    assert len(heal(redis_client)) == 1
    quiet(redis_client)
    hands.work_off("entries")
    assert redis_client.hget(keys.ENTRIES, "counted") == b"1"


@pytest.mark.usefixtures("_an_entry")
def test_events_whose_count_job_is_a_dead_letter_get_another_one(redis_client: redis.Redis, hands: Hands) -> None:
    dead = hands.must_claim("entries")
    hands.fail(dead, Permanent("no"))
    assert len(heal(redis_client)) == 1
    quiet(redis_client)
    dead_letters.redrive(redis_client, dead.id)
    hands.work_off("entries")
    assert redis_client.hget(keys.ENTRIES, "counted") == b"1"


@pytest.mark.usefixtures("_an_entry")
@pytest.mark.parametrize("where", ["ready", "claimed", "waiting for its next attempt"])
def test_a_count_job_that_is_alive_is_left_alone(redis_client: redis.Redis, hands: Hands, where: str) -> None:
    if where != "ready":
        claim = hands.must_claim("entries")
        if where != "claimed":
            hands.fail(claim, ValueError("no"), uniform=0.9)
    quiet(redis_client)


@pytest.mark.parametrize("key", [keys.ENTRIES_JOB, keys.PICK_JOB])
def test_a_job_that_is_due_to_empty_an_empty_buffer_is_forgotten(redis_client: redis.Redis, key: str) -> None:
    redis_client.set(key, "lost")
    assert heal(redis_client) == []
    assert not redis_client.exists(key)


def test_orders_whose_batch_job_was_lost_get_another_one(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    order_id = floor.order(("A", 1))
    lost = lose(redis_client, "picking")
    assert [said.partition(" was lost")[0] for said in heal(redis_client)] == [f"turnstile:pick:buffer: job {lost}"]
    quiet(redis_client)
    hands.work_off("picking")
    assert floor.history(order_id) == ["accepted", "picking", "packing"]


# --- orders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_too", [False, True], ids=["off its queue", "deleted"])
@pytest.mark.parametrize("step", ["pack", "deliver"])
def test_an_open_order_whose_job_was_lost_gets_it_back_under_its_own_id(
    redis_client: redis.Redis, hands: Hands, floor: Floor, step: str, hash_too: bool
) -> None:
    order_id = at(hands, floor, step)
    quiet(redis_client)
    lost = lose(redis_client, QUEUES[step])
    if hash_too:
        redis_client.delete(keys.job(lost))
    assert heal(redis_client) == [f"order {order_id} ({'packing' if step == 'pack' else 'delivering'}): job"]
    assert snapshot(redis_client)[f"rq:queue:{QUEUES[step]}"] == [f"{order_id}-{step}"]
    quiet(redis_client)
    assert hands.must_claim(QUEUES[step]).call().args == (order_id,)
    floor.check_books()


def test_an_order_whose_job_ended_without_it_gets_the_job_again(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    order_id = at(hands, floor, "pack")
    hands.finish(hands.must_claim("packing"))
    assert heal(redis_client) == [f"order {order_id} (packing): job"]
    quiet(redis_client)
    assert redis_client.ttl(f"rq:job:{order_id}-pack") == -1, "what must run does not expire"
    hands.work_off("packing")
    assert floor.status(order_id) == "delivering"


@pytest.mark.parametrize("where", ["claimed", "waiting", "parked", "delayed"])
def test_an_order_whose_job_is_alive_is_left_alone(redis_client: redis.Redis, hands: Hands, floor: Floor, where: str) -> None:
    order_id = at(hands, floor, "pack")
    if where == "parked":
        redis_client.lmove(keys.queue("packing"), keys.intermediate("packing"), "LEFT", "RIGHT")
    elif where == "delayed":
        redis_client.zadd(keys.SCHEDULED_JOBS, {lose(redis_client, "packing"): time.time()})
    else:
        claim = hands.must_claim("packing")
        if where == "waiting":
            hands.fail(claim, ValueError("no"), uniform=0.9)
    assert floor.status(order_id) == "packing"
    quiet(redis_client)


def test_an_order_that_is_in_no_buffer_and_has_no_job_goes_back_to_the_buffer(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    order_id = floor.order(("A", 1))
    redis_client.delete(keys.PICK_BUFFER)
    hands.work_off("picking")
    assert floor.status(order_id) == "accepted"
    order, job = heal(redis_client)
    assert order == f"order {order_id} (accepted): buffer"
    assert job.startswith("turnstile:pick:buffer: job none was lost"), "in the same pass: the buffer needs a job"
    quiet(redis_client)
    hands.work_off("picking")
    assert floor.status(order_id) == "packing"


def test_an_order_that_is_picked_alone_is_left_alone_and_healed_when_that_job_is_lost(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    order_id = floor.order(("A", 1))
    lines = redis_client.hget(keys.order(order_id), "lines")
    redis_client.hset(keys.order(order_id), "lines", "{")
    hands.work("picking")
    redis_client.hset(keys.order(order_id), "lines", lines)
    assert floor.status(order_id) == "picking"
    quiet(redis_client)
    assert lose(redis_client, "picking") == f"{order_id}-pick"
    assert heal(redis_client)[0] == f"order {order_id} (picking): buffer"
    hands.work_off("picking")
    assert floor.status(order_id) == "packing"
    floor.check_books()


@pytest.mark.parametrize("hash_too", [False, True])
def test_a_delayed_order_whose_start_was_lost_waits_for_its_time_again(
    redis_client: redis.Redis, hands: Hands, floor: Floor, hash_too: bool
) -> None:
    order_id = floor.order(("A", 1), countdown_s=500)
    quiet(redis_client)
    due = redis_client.zscore(keys.SCHEDULED_JOBS, f"{order_id}-start")
    redis_client.delete(keys.SCHEDULED_JOBS, *([f"rq:job:{order_id}-start"] if hash_too else []))
    assert heal(redis_client) == [f"order {order_id} (scheduled): job"]
    assert redis_client.zscore(keys.SCHEDULED_JOBS, f"{order_id}-start") == due
    quiet(redis_client)
    hands.promote("picking")
    hands.work_off("picking")
    assert floor.status(order_id) == "packing"


def test_an_order_whose_job_died_behind_its_back_dies_too(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    order_id = at(hands, floor, "pack")
    job_id = lose(redis_client, "packing")
    redis_client.hset(keys.job(job_id), "status", "failed")
    redis_client.zadd(keys.failed("packing"), {job_id: float("inf")})
    assert heal(redis_client) == [f"order {order_id} (packing): dead"]
    view = floor.view(order_id)
    assert (view.status, view.reason) == ("dead", "failed under a stock worker")
    floor.check_books()
    quiet(redis_client)


def test_an_order_that_has_just_changed_is_not_looked_at(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    at(hands, floor, "pack")
    lose(redis_client, "packing")
    before = snapshot(redis_client)
    assert heal(redis_client, after_s=120) == []
    assert changes(before, snapshot(redis_client)) == {}


def test_an_order_that_moved_on_while_the_reconciler_looked_is_left_alone(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    order_id = at(hands, floor, "deliver")
    lose(redis_client, "delivery")
    before = snapshot(redis_client)
    job = reconcile._leading_on(order_id, "packing", time.time())
    args = [order_id, repr(time.time()), "packing", job.id, job.queue, job.fields]
    assert HEAL_ORDER(redis_client, [keys.order(order_id)], args) is None
    assert changes(before, snapshot(redis_client)) == {}


def test_an_index_that_leads_to_an_ended_order_or_to_none_is_put_right(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    order_id = floor.order(("A", 1))
    floor.cancel(order_id)
    hands.work_off("picking")
    redis_client.zadd(keys.ORDERS_OPEN, {order_id: 1, "ord_none": 1})
    assert heal(redis_client) == [f"order {order_id} (cancelled): index", "order ord_none (): index"]
    assert not redis_client.exists(keys.ORDERS_OPEN)
    quiet(redis_client)


def test_a_step_of_the_reconcilers_job_is_the_steps_own(floor: Floor) -> None:
    for status, step in (("accepted", Step.PICK), ("picking", Step.PICK), ("packing", Step.PACK), ("delivering", Step.DELIVER)):
        assert reconcile._leading_on("ord_1", status, 0.0).id == f"ord_1-{step}"
    assert reconcile._leading_on("ord_1", "scheduled", 0.0).id == "ord_1-start"


def test_more_than_a_page_of_orders_is_healed_in_one_pass(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    number = 2 * reconcile.PAGE + 3
    for _ in range(number):
        floor.order(("A", 1))
    hands.work_off("picking")
    redis_client.delete(keys.queue("packing"))
    assert len(heal(redis_client)) == number
    assert redis_client.llen(keys.queue("packing")) == number
    quiet(redis_client)


def test_more_than_a_page_of_false_entries_is_put_right_in_one_pass(redis_client: redis.Redis) -> None:
    number = 2 * reconcile.PAGE + 3
    redis_client.zadd(keys.ORDERS_OPEN, {f"ord_{index}": 1 for index in range(number)})
    assert len(heal(redis_client)) == number
    assert not redis_client.exists(keys.ORDERS_OPEN)


def test_an_order_that_cannot_be_healed_keeps_no_other_one_from_it(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    bad, good = at(hands, floor, "pack"), floor.order(("A", 1))
    hands.work_off("picking")
    redis_client.delete(keys.queue("packing"), keys.job(f"{bad}-pack"), keys.job(f"{good}-pack"))
    redis_client.set(keys.job(f"{bad}-pack"), "no hash")
    assert heal(redis_client) == [f"order {good} (packing): job"]
