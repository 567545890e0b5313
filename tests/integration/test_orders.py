"""Orders at the counter: accepted once, delayed, cancelled, listed; each in one atomic step that can be repeated."""

import asyncio
import time

import msgspec
import pytest
import redis
from asking import Ask
from hands import Hands
from mall_floor import Floor
from snapshots import changes, snapshot

from jobs import keys
from jobs.connections import connect_async
from jobs.errors import Conflict, IdempotencyMismatch, InvalidField, NotFound
from jobs.mall import accepting, order_store
from jobs.mall.accepting import Accepted, Sent
from jobs.mall.orders import Line, OrderRequest, Status
from jobs.settings import Settings

NOW = 1_763_764_205.0
STEPS = ("picking", "packing", "delivery")


# --- accepting -------------------------------------------------------------------------------


def test_accepting_writes_order_indexes_event_record_and_job_in_one_step(redis_client: redis.Redis, floor: Floor) -> None:
    accepted = floor.accept(("A", 2), key="k", now=NOW, reference="536365", country="Norway")
    after = snapshot(redis_client)
    order_id = accepted.order_id
    order = after.pop(f"turnstile:order:{order_id}")
    assert {name: order[name] for name in ("status", "step", "reference", "country", "version", "trace")} == {
        "status": "accepted",
        "step": "pick",
        "reference": "536365",
        "country": "Norway",
        "version": "1",
        "trace": "t",
    }
    [record] = [key for key in after if key.startswith(keys.IDEMPOTENCY_PREFIX) and not key.endswith("!ttl")]
    assert after.pop(record).split(" ", 2)[1:] == [order_id, accepted.answer.decode()]
    assert after.pop(f"{record}!ttl")
    job_id = after.pop("turnstile:pick:job")
    assert after.pop(f"rq:job:{job_id}")["status"] == "queued"
    assert {key: value for key, value in after.items() if ":stats:" not in key} == {
        "turnstile:orders": {order_id: NOW},
        "turnstile:orders:status:accepted": {order_id: NOW},
        "turnstile:orders:open": {order_id: NOW},
        "turnstile:events": [{"order": order_id, "status": "accepted", "at": repr(NOW)}],
        "turnstile:pick:buffer": [order_id],
        "rq:queue:picking": [job_id],
        "rq:queues": {"rq:queue:picking"},
        "turnstile:bell:picking": ["1"],
        "turnstile:totals:picking": {"enqueued": "1"},
    }
    assert msgspec.json.decode(accepted.answer)["id"] == order_id


def test_the_same_key_and_body_get_the_same_answer_and_write_nothing(redis_client: redis.Redis, floor: Floor) -> None:
    first = floor.accept(("A", 2), key="k")
    before = snapshot(redis_client)
    again = floor.accept(("A", 2), key="k")
    assert (again.order_id, again.answer, again.replayed, first.replayed) == (first.order_id, first.answer, True, False)
    assert changes(before, snapshot(redis_client)) == {}


def test_the_answer_of_a_repeated_request_stays_the_first_one_whatever_became_of_the_order(hands: Hands, floor: Floor) -> None:
    first = floor.accept(("A", 2), key="k")
    hands.work_off("picking", "packing")
    assert floor.accept(("A", 2), key="k").answer == first.answer


def test_the_same_key_with_another_body_is_refused_and_writes_nothing(redis_client: redis.Redis, floor: Floor) -> None:
    order_id = floor.order(("A", 2), key="k")
    before = snapshot(redis_client)
    with pytest.raises(IdempotencyMismatch) as caught:
        floor.accept(("A", 3), key="k")
    assert (caught.value.key, caught.value.order_id) == ("k", order_id)
    assert changes(before, snapshot(redis_client)) == {}


def test_a_key_is_its_senders_own(floor: Floor) -> None:
    assert floor.order(("A", 1), key="k", sender="c1") != floor.order(("A", 1), key="k", sender="c2")


def test_one_order_comes_of_many_equal_requests_at_once(redis_url: str, redis_client: redis.Redis, settings: Settings) -> None:
    async def all_at_once() -> list[accepting.Outcome]:
        client = connect_async(redis_url)
        sent = Sent(OrderRequest([Line("A", 1)]), "c", "k", "")
        calls = [accepting.accept(client, [sent] * n, settings=settings, now=time.time()) for n in (1, 9) * 3]
        try:
            return [outcome for batch in await asyncio.gather(*calls) for outcome in batch]
        finally:
            await client.aclose()

    answers = [outcome for outcome in asyncio.run(all_at_once()) if isinstance(outcome, Accepted)]
    assert (len(answers), len({answer.answer for answer in answers})) == (30, 1)
    assert sum(not answer.replayed for answer in answers) == 1
    assert redis_client.zcard(keys.ORDERS) == 1


def test_orders_pile_up_behind_one_batch_job(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    ids = [floor.order(("A", 1)) for _ in range(5)]
    after = snapshot(redis_client)
    assert (len(after["rq:queue:picking"]), after["turnstile:pick:buffer"]) == (1, ids)
    claim = hands.must_claim("picking")
    assert hands.run(claim) == {"packing": 5}
    assert not redis_client.exists(keys.PICK_JOB, keys.PICK_BUFFER)
    late = floor.order(("A", 1))
    assert len(snapshot(redis_client)["rq:queue:picking"]) == 1, "the next order enqueues the next job"
    hands.finish(claim)
    hands.work_off("picking")
    assert floor.status(late) == "packing"


# --- delayed orders --------------------------------------------------------------------------


def test_a_delayed_order_waits_in_redis_and_starts_when_its_time_has_come(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    accepted = floor.accept(("A", 1), now=NOW, countdown_s=90)
    order_id, after = accepted.order_id, snapshot(redis_client)
    assert after["rq:scheduler:scheduled_jobs"] == {f"{order_id}-start": NOW + 90}
    assert after[f"rq:job:{order_id}-start"]["status"] == "scheduled"
    assert after["turnstile:orders:status:scheduled"] == {order_id: NOW}
    assert not {"turnstile:pick:buffer", "turnstile:pick:job", "rq:queue:picking"} & set(after)
    assert msgspec.json.decode(accepted.answer)["due_at"] == floor.view(order_id).due_at == NOW + 90
    assert hands.promote("picking") == 1
    hands.work_off("picking")
    assert floor.history(order_id) == ["scheduled", "accepted", "picking", "packing"]
    assert floor.view(order_id).due_at is None
    floor.check_books()


def test_a_delayed_order_starts_once_however_often_its_job_runs(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    order_id = floor.order(("A", 1), countdown_s=90)
    hands.promote("picking")
    claim = hands.must_claim("picking")
    assert hands.run(claim) == "started"
    before = snapshot(redis_client)
    assert hands.run(claim) == "not waiting any more"
    assert changes(before, snapshot(redis_client)) == {}
    assert before["turnstile:pick:buffer"] == [order_id]


def test_a_delayed_order_that_was_cancelled_leaves_no_job_and_does_not_start(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    order_id = floor.order(("A", 1), countdown_s=90)
    hands.promote("picking")
    claim = hands.must_claim("picking")
    floor.cancel(order_id)
    before = snapshot(redis_client)
    assert hands.run(claim) == "not waiting any more"
    assert changes(before, snapshot(redis_client)) == {}
    other = floor.order(("A", 1), countdown_s=90)
    floor.cancel(other)
    assert not redis_client.exists(f"rq:job:{other}-start", keys.SCHEDULED_JOBS)
    floor.check_books()


# --- cancelling ------------------------------------------------------------------------------


@pytest.mark.parametrize(("done", "status"), [(0, "accepted"), (1, "packing")])
def test_an_order_can_be_cancelled_until_its_delivery_has_begun(
    redis_client: redis.Redis, hands: Hands, floor: Floor, done: int, status: str
) -> None:
    floor.put("A", 3)
    order_id = floor.order(("A", 2))
    hands.work_off(*STEPS[:done])
    assert floor.status(order_id) == status
    assert floor.cancel(order_id).status == "cancelled"
    assert floor.stock("A") == (3, 0)
    assert redis_client.llen(keys.PICK_BUFFER) == 0
    floor.check_books()
    before = snapshot(redis_client)
    assert floor.cancel(order_id).status == "cancelled"
    assert changes(before, snapshot(redis_client)) == {}
    hands.work_off(*STEPS[:2])
    assert floor.history(order_id)[-1] == "cancelled"
    floor.check_books()


def test_an_order_that_is_on_its_way_or_has_ended_cannot_be_cancelled(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    floor.put("B", 0)
    delivering, rejected = floor.order(("A", 1)), floor.order(("B", 1))
    hands.work_off("picking", "packing")
    before = snapshot(redis_client)
    for order_id, status in ((delivering, "delivering"), (rejected, "rejected")):
        with pytest.raises(Conflict, match=f"the order is {status} and cannot be cancelled any more") as caught:
            floor.cancel(order_id)
        assert caught.value.status == status
    with pytest.raises(NotFound):
        floor.cancel("ord_none")
    assert changes(before, snapshot(redis_client)) == {}


def test_a_step_that_runs_while_its_order_is_cancelled_writes_nothing_more(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    order_id = floor.order(("A", 1))
    hands.work_off("picking")
    claim = hands.must_claim("packing")
    floor.cancel(order_id)
    before = snapshot(redis_client)
    assert hands.run(claim) == "moved on"
    assert changes(before, snapshot(redis_client)) == {}


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_pages_show_each_order_once_the_newest_first(floor: Floor, limit: int) -> None:
    created = {floor.order(("A", 1), now=NOW + (number // 2)): number // 2 for number in range(6)}
    newest_first = sorted(created, key=lambda order_id: (created[order_id], order_id), reverse=True)
    for status in (None, Status.ACCEPTED):
        pages = floor.pages(status, limit)
        assert [order_id for page in pages for order_id in page] == newest_first
        assert all(len(page) == limit for page in pages[:-1])
    assert floor.pages(Status.DEAD, limit) == [[]]


@pytest.mark.parametrize("cursor", ["", "x", "nan:a", "nan"])
def test_a_cursor_that_is_none_is_refused(ask: Ask, redis_client: redis.Redis, cursor: str) -> None:
    with pytest.raises(InvalidField, match="cursor: not a cursor of this list"):
        ask(lambda client: order_store.page(client, status=None, cursor=cursor, limit=1))


def test_what_does_not_exist_is_not_found(floor: Floor) -> None:
    with pytest.raises(NotFound, match="no order with id 'ord_none'"):
        floor.view("ord_none")


def test_events_tell_every_change_in_its_order(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    order_id = floor.order(("A", 1))
    hands.work_off("picking", "packing")
    found = snapshot(redis_client)["turnstile:events"]
    expected = ["accepted", "picking", "packing", "delivering"]
    assert [(event["order"], event["status"]) for event in found] == [(order_id, status) for status in expected]
    assert [float(event["at"]) for event in found] == sorted(float(event["at"]) for event in found)
