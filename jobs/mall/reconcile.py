"""Reconciliation: everything accepted has something that leads on, or gets it.

Our own workers and scripts leave no gap; this covers what stock workers, RQ's own tools, a purge by hand or
a Redis that lost its last writes leave behind.
"""

import redis

from jobs import keys
from jobs.mall import steps
from jobs.mall.orders import Status, Step
from jobs.queue import batches
from jobs.queue.job import JobSpec
from jobs.queue.script import beside, load

HEAL_ORDER = beside(__file__, "heal_order")
PAGE = 200
STEP_OF = {
    Status.ACCEPTED: Step.PICK,
    Status.PICKING: Step.PICK,
    Status.PACKING: Step.PACK,
    Status.DELIVERING: Step.DELIVER,
}


def reconcile(client: redis.Redis, *, now: float, after_s: float) -> list[str]:
    """One pass over the buffers and the open orders unchanged for `after_s`; returns what it did, a line each."""
    return [*batches.heal(client, now), *_heal_orders(client, now, after_s)]


def _heal_orders(client: redis.Redis, now: float, after_s: float) -> list[str]:
    done: list[str] = []
    waiting = _waiting(client)
    unchanged = client.zcount(keys.ORDERS_OPEN, "-inf", now - after_s)
    for offset in range(unchanged - unchanged % PAGE, -1, -PAGE):  # from the end: what a page removes shifts no page before it
        ids = client.zrange(keys.ORDERS_OPEN, "-inf", now - after_s, byscore=True, offset=offset, num=PAGE)
        doubtful = [order_id for order_id in map(bytes.decode, ids) if waiting.isdisjoint(_places(order_id))]
        done += _heal_page(client, doubtful, now) if doubtful else []
    return done


def _waiting(client: redis.Redis) -> set[str]:
    """Ready jobs and orders to pick, read once a pass: a backlog is looked through in linear time, and only the rest in doubt."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.lrange(keys.PICK_BUFFER, 0, -1)
        for queue in {steps.pick.queue, steps.pack.queue, steps.deliver.queue}:
            pipeline.lrange(keys.queue(queue), 0, -1)
        return {member.decode() for members in pipeline.execute() for member in members}


def _places(order_id: str) -> list[str]:
    """What stands in a list for an order that waits there: itself in the pick buffer, or the job of a step."""
    return [order_id, *(f"{order_id}-{step}" for step in Step)]


def _heal_page(client: redis.Redis, ids: list[str], now: float) -> list[str]:
    with client.pipeline(transaction=False) as pipeline:
        for order_id in ids:
            pipeline.hget(keys.order(order_id), "status")
        statuses = [(text or b"").decode() for text in pipeline.execute()]
    load(client, HEAL_ORDER)
    with client.pipeline(transaction=False) as pipeline:
        for order_id, status in zip(ids, statuses, strict=True):
            job = _leading_on(order_id, status, now)
            HEAL_ORDER.in_pipeline(pipeline, [keys.order(order_id)], [order_id, repr(now), status, job.id, job.queue, job.fields])
        answers = pipeline.execute()
    return [
        f"order {order_id} ({status}): {what.decode()}"
        for order_id, status, what in zip(ids, statuses, answers, strict=True)
        if what
    ]


def _leading_on(order_id: str, status: str, now: float) -> JobSpec:
    """The job that an order in this status waits for; for one that is picked in a batch, the job that would pick it alone."""
    if status == Status.SCHEDULED:
        return steps.start_spec(order_id, now)
    step = STEP_OF[Status(status)] if status in set(STEP_OF) else Step.PICK
    return steps.step_spec(order_id, step, now)
