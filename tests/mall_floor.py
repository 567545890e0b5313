"""The mall for tests, without the web: orders are accepted, jobs are done by hand, and the books are checked."""

import itertools
import time
from collections import Counter
from functools import partial
from typing import Any

import msgspec
import redis
from asking import Ask

from jobs import keys
from jobs.errors import IdempotencyMismatch
from jobs.mall import accepting, order_store, stock
from jobs.mall.accepting import Accepted, Sent
from jobs.mall.orders import ENDED, TRANSITIONS, OrderRequest, OrderView, Status
from jobs.mall.stock import Stock
from jobs.settings import Settings


class Floor:
    """What a client of the mall can do."""

    def __init__(self, client: redis.Redis, ask: Ask, settings: Settings) -> None:
        self.client = client
        self._ask = ask
        self._settings = settings
        self._numbers = itertools.count(1)

    def accept(
        self, *lines: tuple[str, int], key: str | None = None, now: float | None = None, sender: str = "c", **fields: Any
    ) -> Accepted:
        """Sends an order of (SKU, quantity) lines."""
        wanted = [{"sku": sku, "quantity": quantity} for sku, quantity in lines or (("A", 1),)]
        request = msgspec.convert({"lines": wanted, **fields}, OrderRequest)
        at = time.time() if now is None else now
        sent_under = key or f"key-{next(self._numbers)}"
        sent = Sent(request, sender, sent_under, "t")
        [outcome] = self._ask(lambda client: accepting.accept(client, [sent], settings=self._settings, now=at))
        if isinstance(outcome, IdempotencyMismatch):
            raise outcome
        return outcome

    def order(self, *lines: tuple[str, int], **fields: Any) -> str:
        """Sends an order; returns its id."""
        return self.accept(*lines, **fields).order_id

    def view(self, order_id: str) -> OrderView:
        """The order as the API shows it."""
        return self._ask(lambda client: order_store.get(client, order_id))[0]

    def pages(self, status: Status | None, limit: int) -> list[list[str]]:
        """The ids on each page of the list, from the first to the last."""
        found: list[list[str]] = []
        cursor: str | None = None
        while True:
            page = self._ask(partial(order_store.page, status=status, cursor=cursor, limit=limit))
            found.append([order.id for order in page.orders])
            cursor = page.next_cursor
            if cursor is None:
                return found

    def status(self, order_id: str) -> str:
        """Where the order stands."""
        return self.view(order_id).status

    def cancel(self, order_id: str) -> OrderView:
        """Cancels the order."""
        return self._ask(lambda client: order_store.cancel(client, order_id, time.time()))

    def put(self, sku: str, on_hand: int) -> Stock:
        """Sets what is on hand."""
        return self._ask(lambda client: stock.put(client, sku, on_hand))

    def stock(self, sku: str) -> tuple[int, int]:
        """On hand and reserved."""
        found = self._ask(lambda client: stock.get(client, sku))
        return found.on_hand, found.reserved

    def counts(self) -> dict[str, int]:
        """Orders by status, those that cleanup has deleted included; statuses without orders left out."""
        return {status: number for status, number in self._ask(order_store.counts).items() if number}

    def history(self, order_id: str) -> list[str]:
        """Every status that the order was moved to, from its events."""
        events = [fields for _id, fields in self.client.xrange(keys.EVENTS)]
        return [fields[b"status"].decode() for fields in events if fields[b"order"].decode() == order_id]

    def check_books(self) -> None:
        """What must hold at every instant: legal paths, each order in the indexes of its state, stock that adds up."""
        held: Counter[str] = Counter()
        orders = [order_id.decode() for order_id in self.client.zrange(keys.ORDERS, 0, -1)]
        for order_id in orders:
            fields = {name.decode(): value.decode() for name, value in self.client.hgetall(keys.order(order_id)).items()}
            self._check_order(order_id, fields)
            held.update(msgspec.json.decode(fields.get("reserved", "{}"), type=dict[str, int]))
        assert sum(self.counts().values()) - sum(map(int, self.client.hvals(keys.ORDERS_ARCHIVED))) == len(orders)
        buffered = [order_id.decode() for order_id in self.client.lrange(keys.PICK_BUFFER, 0, -1)]
        assert len(buffered) == len(set(buffered)), "an order waits twice"
        for key in self.client.scan_iter(match=f"{keys.STOCK_PREFIX}*"):
            sku = key.decode().removeprefix(keys.STOCK_PREFIX)
            on_hand, reserved = self.stock(sku)
            assert 0 <= reserved <= on_hand, (sku, on_hand, reserved)
            assert reserved == held[sku], f"{sku}: {reserved} reserved, orders hold {held[sku]}"

    def _check_order(self, order_id: str, fields: dict[str, str]) -> None:
        status = Status(fields["status"])
        listed = [s for s in Status if self.client.zscore(keys.STATUS_PREFIX + s.value, order_id) is not None]
        assert listed == [status], f"{order_id} is {status} and listed as {listed}"
        assert (self.client.zscore(keys.ORDERS_OPEN, order_id) is not None) == (status not in ENDED)
        path = self.history(order_id)
        assert path[0] in (Status.SCHEDULED, Status.ACCEPTED)
        assert path[-1] == status
        for before, after in itertools.pairwise(path):
            assert Status(after) in TRANSITIONS[Status(before)], f"{order_id}: {' -> '.join(path)}"
        holds = "reserved" in fields
        assert not holds or status in (Status.PACKING, Status.DELIVERING, Status.DEAD), f"{order_id} is {status} and holds stock"
