"""What the doctor looks for in the mall: orders that no index leads to or nothing leads on, stock and sums that do not add up."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import msgspec
import redis

from jobs import keys
from jobs.mall import footfall, reconcile
from jobs.mall.orders import Status, Step
from jobs.queue.orphan_entries import KEY_OF_NOTHING, in_zset
from jobs.queue.orphan_jobs import CHUNK, Places, chunks
from jobs.queue.orphans import Finding, Kind, Part, Seen, asked, named
from jobs.queue.script import Argument, beside

ORDER = beside(__file__, "mend_order")
PICK = beside(__file__, "mend_pick")
STANDS = beside(__file__, "order_stands")
STATUSES = [keys.STATUS_PREFIX + status.value for status in Status]
TRIES = 5
"""How often a sum is taken anew that changed meanwhile."""


def _stock(client: redis.Redis, places: Sequence[str], args: Sequence[Argument]) -> bool:
    """Whatever changes what an order has reserved changes the stock in the same script: while that stands, so does the sum.

    An order that no index leads to is missing in the sum: the indexes are mended before.
    """
    sku = places[0].removeprefix(keys.STOCK_PREFIX)
    return _differs(client, places[0], "reserved", lambda: _reserved(client)[sku], args)


def _entries(client: redis.Redis, places: Sequence[str], args: Sequence[Argument]) -> bool:
    def there() -> int:
        waiting = footfall.events_in(client.lrange(keys.ENTRIES_BUFFER, 0, -1))
        return int(client.hget(keys.ENTRIES, "counted") or 0) + waiting

    return _differs(client, places[0], "accepted", there, args)


def _differs(client: redis.Redis, key: str, field: str, total: Callable[[], int], args: Sequence[Argument]) -> bool:
    """Whether a number is not the sum that it stands for, taken while nothing changes the key; it is set to the sum then."""
    for _ in range(TRIES):
        with client.pipeline(transaction=True) as pipeline:
            pipeline.watch(key)
            said, wanted = int(client.hget(key, field) or 0), total()
            pipeline.multi()
            if args[0] and said != wanted:
                pipeline.hset(key, field, wanted)
            else:
                pipeline.exists(key)  # the EXEC is refused if the key has changed
            try:
                pipeline.execute()
            except redis.exceptions.WatchError:
                continue
            return said != wanted
    return False  # it is in motion: another day


def _reserved(client: redis.Redis) -> Counter[str]:
    """What orders hold, by SKU: those in any index in which such an order stands, in case that one of them is damaged.

    The open ones stand first and last: one that a redrive opens again is not passed over.
    """
    held: dict[str, dict[str, int]] = {}
    by_status = [keys.STATUS_PREFIX + status for status in (Status.PACKING, Status.DELIVERING, Status.DEAD)]
    for index in (keys.ORDERS_OPEN, *by_status, keys.ORDERS_OPEN):
        for ids in in_zset(client, index):
            found = asked(client, [("HGET", keys.order(order_id), "reserved") for order_id in ids])
            held |= {i: msgspec.json.decode(text, type=dict[str, int]) for i, text in zip(ids, found, strict=True) if text}
    total: Counter[str] = Counter()
    for quantities in held.values():
        total.update(quantities)
    return total


def _orders(client: redis.Redis, places: Sequence[str], _args: Sequence[Argument]) -> bool:
    """Mends nothing: the indexes of each order are mended."""
    with client.pipeline(transaction=True) as pipeline:
        for key in places:
            pipeline.zcard(key)
        all_of_them, *by_status = pipeline.execute()
    return int(all_of_them) != sum(map(int, by_status))


def _heal(client: redis.Redis, _finding: Finding) -> None:
    """The reconciler heals all of them at once, as many as it heals in one pass; for the others it is asked again."""
    reconcile.reconcile(client, now=time.time(), after_s=0.0)


GONE = Kind("order-gone", "an index that leads to an order which is gone", "removes the entries", ORDER)
UNLISTED = Kind("order-unlisted", "an order that the index of all orders lacks", "adds it", ORDER)
FRAGMENT = Kind("order-fragment", "an order's hash without an order in it", "deletes it", ORDER)
INDEX = Kind("order-index", "an order that stands in the index of another state", "moves it", ORDER)
BUFFERED = Kind("pick-buffer", "a place in the pick buffer of an order that does not wait", "gives it up", PICK)
STANDING = Kind("order-stands", "an open order that nothing leads on", "gives it a job", STANDS, _heal)
STOCK = Kind("stock-reserved", "reserved stock that is not what the orders hold", "reserves what they hold", _stock, last=True)
ENTRIES_SUM = Kind("entries-sum", "accepted entries that are not those counted and waiting", "counts the accepted anew", _entries)
ORDERS_SUM = Kind("orders-sum", "orders that are not the sum of all states", "mends the orders' indexes", _orders)


def _looked_at(client: redis.Redis, ids: Sequence[str]) -> Iterator[Finding]:
    suspects = [Finding(INDEX, (keys.order(order_id), keys.ORDERS, keys.ORDERS_OPEN, *STATUSES), (order_id,)) for order_id in ids]
    return named(client, suspects, (GONE, UNLISTED, FRAGMENT, INDEX))


def _indexed(client: redis.Redis) -> Iterator[Finding]:
    """What the indexes lead to, if it is gone: an order that is there is looked at among all keys."""
    for index in (keys.ORDERS, keys.ORDERS_OPEN, *STATUSES):
        for ids in in_zset(client, index):
            exist = asked(client, [("EXISTS", keys.order(order_id)) for order_id in ids])
            yield from _looked_at(client, [order_id for order_id, there in zip(ids, exist, strict=True) if not there])


def _buffered(client: redis.Redis) -> Iterator[Finding]:
    for chunk in chunks(client, keys.PICK_BUFFER):
        ids = [order_id.decode(errors="replace") for order_id in chunk]
        states = asked(client, [("HGET", keys.order(order_id), "status") for order_id in ids])
        for order_id in (i for i, state in zip(ids, states, strict=True) if state not in (b"accepted", b"picking")):
            yield Finding(BUFFERED, (keys.order(order_id), keys.PICK_BUFFER), (order_id,))


def _stocks(client: redis.Redis) -> Iterator[Finding]:
    before = _reserved(client)
    cursor, stocks = -1, dict[str, int]()
    while cursor:
        cursor, found = client.scan(max(cursor, 0), match=f"{keys.STOCK_PREFIX}*", count=CHUNK)
        names = [key.decode(errors="replace") for key in found]
        for name, number in zip(names, asked(client, [("HGET", name, "reserved") for name in names]), strict=True):
            stocks[name.removeprefix(keys.STOCK_PREFIX)] = int(number or 0) if not isinstance(number, Exception) else 0
    after = _reserved(client)
    yield from (
        Finding(STOCK, (keys.STOCK_PREFIX + sku,)) for sku, number in stocks.items() if before[sku] == after[sku] != number
    )


def _sums(_client: redis.Redis) -> Iterator[Finding]:
    yield Finding(ENTRIES_SUM, (keys.ENTRIES,))
    yield Finding(ORDERS_SUM, (keys.ORDERS, *STATUSES))


def _hashes(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    return _looked_at(client, [seen.holds for seen in page])


def _of_order(_client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    return (Finding(KEY_OF_NOTHING, (seen.name, keys.order(seen.holds))) for seen in page)


def part(places: Places) -> Part:
    """Looks at every order, beside the places of jobs that were read before."""

    def standing(client: redis.Redis) -> Iterator[Finding]:
        buffered = {order_id for chunk in chunks(client, keys.PICK_BUFFER) for order_id in chunk}
        for ids in in_zset(client, keys.ORDERS_OPEN):
            starts = asked(client, [("ZSCORE", keys.SCHEDULED_JOBS, f"{order_id}-start") for order_id in ids])
            for order_id, due_at in zip(ids, starts, strict=True):
                jobs = {f"{order_id}-{step}".encode() for step in (*Step, "start")}
                if due_at is None and order_id.encode() not in buffered and places.ids.isdisjoint(jobs):
                    yield Finding(STANDING, (keys.order(order_id), keys.PICK_BUFFER), (order_id,))

    whole = [_indexed, _buffered, standing, _stocks, _sums]
    return Part(whole=whole, named={"order": _hashes, "order_attempts": _of_order, "order_notices": _of_order})
