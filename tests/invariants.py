"""What must hold in Redis whatever has happened to it: I1 to I8 of the design, for a system in which nothing is under way."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence

import msgspec
import redis

from jobs import keys
from jobs.mall.orders import ENDED, TRANSITIONS, Status
from jobs.queue.overview import queue_names
from jobs.queue.samples import sum_up

Hash = dict[str, str]


def unlawful(path: Sequence[Status], status: str) -> str:
    """I2: what is wrong with the way that an order took to its status; empty when nothing is."""
    steps = itertools.pairwise(path)
    if (
        path
        and path[0] in (Status.SCHEDULED, Status.ACCEPTED)
        and path[-1] == status
        and all(b in TRANSITIONS[a] for a, b in steps)
    ):
        return ""
    return f"no legal way to {status}: {' -> '.join(path)}"


def under_way(client: redis.Redis) -> list[str]:
    """The keys that tell of something that has not ended: orders, canvases, entries, items of a batch, jobs."""
    places = [place(queue) for queue in queue_names(client) for place in (keys.queue, keys.wip, keys.scheduled)]
    tell = [keys.ORDERS_OPEN, keys.CANVASES_OPEN, keys.ENTRIES_JOB, keys.PICK_JOB, keys.batch_due(sum_up.name), *places]
    with client.pipeline(transaction=True) as pipeline:
        for key in tell:
            pipeline.exists(key)
        return [key for key, exists in zip(tell, pipeline.execute(), strict=True) if exists]


def orders(client: redis.Redis) -> dict[str, Hash]:
    """Every order that Redis knows."""
    ids = [order_id.decode() for order_id in client.zrange(keys.ORDERS, 0, -1)]
    with client.pipeline(transaction=False) as pipeline:
        for order_id in ids:
            pipeline.hgetall(keys.order(order_id))
        found = pipeline.execute()
    return {i: {k.decode(): v.decode() for k, v in fields.items()} for i, fields in zip(ids, found, strict=True)}


def check_orders(client: redis.Redis, known: dict[str, Hash]) -> None:
    """I2 and I4: each order has ended, by a legal path, and stands in the index of its state and in no other."""
    listed = {status: set(client.zrange(keys.STATUS_PREFIX + status.value, 0, -1)) for status in Status}
    assert sum(map(len, listed.values())) == len(known) == client.zcard(keys.ORDERS), "orders in = sum of all states"
    assert client.zrange(keys.ORDERS_OPEN, 0, -1) == []
    paths: defaultdict[bytes, list[Status]] = defaultdict(list)
    for _id, event in client.xrange(keys.EVENTS):
        paths[event[b"order"]].append(Status(event[b"status"].decode()))
    assert {order_id.decode() for order_id in paths} == known.keys(), "every order has its events, and no other one has"
    for order_id, fields in known.items():
        status, path = Status(fields["status"]), paths[order_id.encode()]
        assert status in ENDED and order_id.encode() in listed[status], f"{order_id} is {status}"
        assert not unlawful(path, status), f"{order_id}: {unlawful(path, status)}"


def check_stock(client: redis.Redis, known: dict[str, Hash], sku: str, on_hand: int) -> None:
    """I7: what is missing was delivered, and nothing is held by orders that have ended."""
    sold: Counter[str] = Counter()
    for fields in known.values():
        assert "reserved" not in fields
        if fields["status"] == Status.DELIVERED:
            for line in msgspec.json.decode(fields["lines"]):
                sold[line["sku"]] += line["quantity"]
    found = {name.decode(): int(value) for name, value in client.hgetall(keys.STOCK_PREFIX + sku).items()}
    assert found.get("reserved", 0) == 0 and found["on_hand"] == on_hand - sold[sku] >= 0, (found, sold[sku])


def check_entries(client: redis.Redis) -> None:
    """I4: accepted = counted + pending; and nothing is pending, nor a count job for it."""
    accepted, counted = (int(number or 0) for number in client.hmget(keys.ENTRIES, "accepted", "counted"))
    assert accepted == counted and client.llen(keys.ENTRIES_BUFFER) == 0
    assert not client.exists(keys.ENTRIES_JOB, keys.PICK_JOB, keys.PICK_BUFFER)


def check_indexes(client: redis.Redis) -> None:
    """I5 and I8: every job is in just one place, what stays there for ever is a definition, and nothing has died."""
    places: Counter[str] = Counter()
    definitions = {f"cron-{name.decode()}" for name in client.smembers(keys.PERIODIC)}
    for queue in queue_names(client):
        assert client.llen(keys.queue(queue)) == client.zcard(keys.wip(queue)) == client.zcard(keys.failed(queue)) == 0, queue
        assert client.zcard(keys.scheduled(queue)) == 0, queue
        for registry in (keys.finished(queue), keys.canceled(queue)):
            places.update(job_id.decode() for job_id in client.zrange(registry, 0, -1))
    scheduled = {job_id.decode() for job_id in client.zrange(keys.SCHEDULED_JOBS, 0, -1)}
    assert scheduled == definitions, "a periodic job is registered, and no delayed one is left"
    jobs = {key.decode().removeprefix("rq:job:") for key in client.scan_iter(match="rq:job:*", count=1000)}
    with client.pipeline(transaction=False) as pipeline:
        for job_id in jobs:
            pipeline.ttl(keys.job(job_id))
        ttls = dict(zip(jobs, pipeline.execute(), strict=True))
    assert all(places[job_id] == 1 and ttls[job_id] > 0 for job_id in jobs - definitions), [
        (job_id, places[job_id], ttls[job_id], client.hgetall(keys.job(job_id)))
        for job_id in jobs - definitions
        if places[job_id] != 1 or ttls[job_id] <= 0
    ]
    known = {keys.order(order_id.decode()).encode() for order_id in client.zrange(keys.ORDERS, 0, -1)}
    found = {key for key in client.scan_iter(match=keys.order("*"), count=1000) if not key.endswith(b":attempts")}
    assert found == known, "no order without an index"
    assert client.zcard(keys.DEAD) == 0
