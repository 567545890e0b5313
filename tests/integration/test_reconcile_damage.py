"""Every status of an open order, damaged in every way: afterwards just one thing leads on, and the order comes to its end."""

import time
from collections.abc import Callable

import pytest
import redis
from carriers import Carrier
from hands import Hands
from mall_floor import Floor

from jobs import keys
from jobs.mall import reconcile

QUEUE_OF = {"start": "picking", "pick": "picking", "pack": "packing", "deliver": "delivery"}
QUEUES = ("picking", "packing", "delivery")


class Damage:
    """The order's job, and what can be done to it behind the system's back."""

    def __init__(self, client: redis.Redis, hands: Hands, order_id: str, step: str) -> None:
        self.client, self.hands, self.order_id, self.step = client, hands, order_id, step
        self.queue, self.job_id = QUEUE_OF[step], f"{order_id}-{step}"
        self.list, self.hash, self.wip = keys.queue(self.queue), keys.job(self.job_id), keys.wip(self.queue)
        self.delayed = step == "start"

    def lose_hash(self) -> None:
        self.client.delete(self.hash)

    def lose_entry(self) -> None:
        self.client.zrem(keys.SCHEDULED_JOBS, self.job_id)
        self.client.lrem(self.list, 0, self.job_id)

    def lose_both(self) -> None:
        self.lose_hash()
        self.lose_entry()

    def double_entry(self) -> None:
        self.client.rpush(self.list, self.job_id)
        self.client.lpush(self.list, self.job_id)

    def delay_too(self) -> None:
        self.client.rpush(self.list, *([self.job_id] if self.delayed else []), "other")
        self.client.zadd(keys.scheduled(self.queue), {self.job_id: time.time() - 1})

    def claim_and_leave_entry(self) -> None:
        self.lose_entry()
        self.client.lpush(self.list, self.job_id)
        assert self.hands.must_claim(self.queue).id == self.job_id
        self.client.rpush(self.list, self.job_id)

    def claim_twice(self) -> None:
        for _ in range(2):
            self.lose_entry()
            self.client.lpush(self.list, self.job_id)
            self.hands.must_claim(self.queue)

    def lose_hash_of_claimed(self) -> None:
        self.claim_and_leave_entry()
        self.lose_both()

    def delay_without_hash(self) -> None:
        self.lose_both()
        self.client.zadd(keys.scheduled(self.queue), {self.job_id: time.time() + 500})

    def end_without_effect(self) -> None:
        self.lose_entry()
        self.client.hset(self.hash, mapping={"status": "finished", "acked": "x"})
        self.client.expire(self.hash, 500)

    def buffer_too(self) -> None:
        self.client.rpush(keys.PICK_BUFFER, self.order_id, self.order_id)


DAMAGES: list[Callable[[Damage], None]] = [
    Damage.lose_hash,
    Damage.lose_entry,
    Damage.lose_both,
    Damage.double_entry,
    Damage.delay_too,
    Damage.claim_and_leave_entry,
    Damage.claim_twice,
    Damage.lose_hash_of_claimed,
    Damage.delay_without_hash,
    Damage.end_without_effect,
    Damage.buffer_too,
]


def stands(client: redis.Redis, damage: Damage) -> int:
    """In how many places the order, or the job that it waits for, is."""
    found: int = client.lrange(damage.list, 0, -1).count(damage.job_id.encode())
    found += sum(member.decode().startswith(f"{damage.job_id}:") for member in client.zrange(damage.wip, 0, -1))
    found += sum(client.zscore(key, damage.job_id) is not None for key in (keys.SCHEDULED_JOBS, keys.scheduled(damage.queue)))
    picked = damage.step == "pick"
    return found + (client.lrange(keys.PICK_BUFFER, 0, -1).count(damage.order_id.encode()) if picked else 0)


def converge(client: redis.Redis, hands: Hands) -> None:
    """What the scheduler and the workers do by themselves, until a pass of the reconciler finds nothing to do."""
    for _ in range(5):
        done = reconcile.reconcile(client, now=time.time() + 60, after_s=5.0)
        for queue in QUEUES:
            done += hands.reclaim(queue)[0]
        if not done:
            return
    raise AssertionError(f"it goes on: {done}")


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("step", QUEUE_OF)
def test_a_damaged_order_is_led_on_by_just_one_thing_and_comes_to_its_end(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier, step: str, damage: Callable[[Damage], None]
) -> None:
    order_id = floor.order(("A", 1), **({"countdown_s": 500.0} if step == "start" else {}))
    if step == "pick":
        lines = redis_client.hget(keys.order(order_id), "lines")
        redis_client.hset(keys.order(order_id), "lines", "{")
        hands.work("picking")
        redis_client.hset(keys.order(order_id), "lines", lines)
    elif step != "start":
        hands.work_off(*QUEUES[: list(QUEUE_OF).index(step) - 1])
    about = Damage(redis_client, hands, order_id, step)
    damage(about)
    for _ in range(4):  # an entry without a job is dropped by whoever promotes or claims it: then the job is missed
        converge(redis_client, hands)
        hands.promote(*QUEUES)
        hands.work_off(*QUEUES)
    assert floor.status(order_id) == "delivered"
    assert len(near_carrier.bookings(order_id)) == 1
    floor.check_books()


@pytest.mark.parametrize("damage", [Damage.double_entry, Damage.claim_and_leave_entry], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("step", QUEUE_OF)
def test_an_order_that_is_led_on_twice_is_led_on_once(
    redis_client: redis.Redis, hands: Hands, floor: Floor, step: str, damage: Callable[[Damage], None]
) -> None:
    order_id = floor.order(("A", 1), **({"countdown_s": 500.0} if step == "start" else {}))
    if step == "pick":
        redis_client.hset(keys.order(order_id), "lines", "{")
        hands.work("picking")
    elif step != "start":
        hands.work_off(*QUEUES[: list(QUEUE_OF).index(step) - 1])
    about = Damage(redis_client, hands, order_id, step)
    redis_client.zrem(keys.SCHEDULED_JOBS, about.job_id)
    damage(about)
    assert stands(redis_client, about) > 1
    [said] = reconcile.reconcile(redis_client, now=time.time() + 60, after_s=5.0)
    assert said.endswith(": once")
    assert stands(redis_client, about) == 1
    assert reconcile.reconcile(redis_client, now=time.time() + 60, after_s=5.0) == []


def test_an_order_that_waits_in_the_buffer_twice_or_beside_its_own_job_waits_once(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    twice = floor.order(("A", 1))
    beside = floor.order(("A", 1))
    redis_client.rpush(keys.PICK_BUFFER, twice)
    job = reconcile._leading_on(beside, "accepted", time.time())
    redis_client.hset(keys.job(job.id), mapping={"status": "queued", "origin": "picking"})
    redis_client.rpush(keys.queue("picking"), job.id)
    done = reconcile.reconcile(redis_client, now=time.time() + 60, after_s=5.0)
    assert sorted(done) == sorted([f"order {twice} (accepted): once", f"order {beside} (accepted): once"])
    assert redis_client.lrange(keys.PICK_BUFFER, 0, -1) == [twice.encode()]
    assert reconcile.reconcile(redis_client, now=time.time() + 60, after_s=5.0) == []
