"""Reconciliation: everything accepted has something that leads on, or gets it.

Our own workers and scripts leave no gap; this covers what stock workers, RQ's own tools, a purge by hand or
a Redis that lost its last writes leave behind.
"""

from collections import Counter

import redis

from jobs import crash_points, keys, log
from jobs.connections import is_away
from jobs.mall import steps, webhooks
from jobs.mall.orders import Status, Step
from jobs.queue import batches
from jobs.queue.job import JobSpec
from jobs.queue.script import Invocation, beside, exchange, is_stale

HEAL_ORDER = beside(__file__, "heal_order")
IN_DOUBT = beside(__file__, "orders_in_doubt")
PAGE = 200
HEALED = 1_000
"""So many orders, and a page more, are healed in one pass at most: the scheduler has other duties."""
READ_AT_ONCE = 5_000
MANY = 9
SUFFIXES = ("", "-start", *(f"-{step}" for step in Step))
QUEUES = tuple(dict.fromkeys((steps.pick.queue, steps.pack.queue, steps.deliver.queue)))
DELAYED = [keys.SCHEDULED_JOBS, *(keys.scheduled(step.queue) for step in (steps.pick, steps.pack, steps.deliver))]
STEP_OF = {
    Status.ACCEPTED: Step.PICK,
    Status.PICKING: Step.PICK,
    Status.PACKING: Step.PACK,
    Status.DELIVERING: Step.DELIVER,
}
logger = log.get("reconcile")


def reconcile(client: redis.Redis, *, now: float, after_s: float) -> list[str]:
    """One pass over the open orders unchanged for `after_s`, the buffers and the notices; returns what it did, a line each."""
    return [*_heal_orders(client, now, after_s), *batches.heal(client, now), *webhooks.heal(client, now=now, after_s=after_s)]


def _heal_orders(client: redis.Redis, now: float, after_s: float) -> list[str]:
    done: list[str] = []
    places = _places(client)
    unchanged = client.zcount(keys.ORDERS_OPEN, "-inf", now - after_s)
    for offset in range(unchanged - unchanged % PAGE, -1, -PAGE):  # from the end: what a page removes shifts no page before it
        ids = client.zrange(keys.ORDERS_OPEN, "-inf", now - after_s, byscore=True, offset=offset, num=PAGE)
        args = [part for order_id in map(bytes.decode, ids) for part in (order_id, _digits(order_id, places))]
        doubtful = [text.decode() for text in IN_DOUBT(client, DELAYED, args)] if args else []
        if doubtful:
            done += _heal_page(client, doubtful[::2], doubtful[1::2], now)
        if len(done) >= HEALED:
            break
    return done


def _places(client: redis.Redis) -> Counter[str]:
    """How often each order stands in the pick buffer, and each job in its queue's list or among the claimed ones. Read once a
    pass, so that a backlog is looked through in linear time; what moves meanwhile is in doubt at most."""
    places: Counter[str] = Counter()
    for key in (keys.PICK_BUFFER, *map(keys.queue, QUEUES)):
        for start in range(0, client.llen(key), READ_AT_ONCE):
            places.update(map(bytes.decode, client.lrange(key, start, start + READ_AT_ONCE - 1)))
    for queue in QUEUES:
        places.update(member.decode().partition(":")[0] for member in client.zrange(keys.wip(queue), 0, -1))
    return places


def _digits(order_id: str, places: Counter[str]) -> str:
    """What orders_in_doubt.lua is told about an order."""
    return "".join(str(min(places[order_id + suffix], MANY)) for suffix in SUFFIXES)


def _heal_page(client: redis.Redis, ids: list[str], statuses: list[str], now: float) -> list[str]:
    invocations: list[Invocation] = []
    for order_id, status in zip(ids, statuses, strict=True):
        job = _leading_on(order_id, status, now)
        args = [order_id, repr(now), status, job.id, job.queue, job.fields]
        invocations.append((HEAL_ORDER, [keys.order(order_id)], args))
    done = []
    crash_points.reach("reconcile.doubted")
    for order_id, status, what in zip(ids, statuses, exchange(client, invocations), strict=True):
        if isinstance(what, Exception):
            if is_away(what) or is_stale(what):
                raise what
            logger.error("order not healed", order_id=order_id, error=str(what))
        elif what:
            done.append(f"order {order_id} ({status}): {what.decode()}")
    crash_points.reach("reconcile.healed")
    return done


def _leading_on(order_id: str, status: str, now: float) -> JobSpec:
    """The job that an order in this status waits for; for one that is picked in a batch, the job that would pick it alone."""
    if status == Status.SCHEDULED:
        return steps.start_spec(order_id, now)
    step = STEP_OF[Status(status)] if status in set(STEP_OF) else Step.PICK
    return steps.step_spec(order_id, step, now)
