"""The calls that the express lane knows: a single entry, and an order."""

import time

from jobs.access.scopes import Scope
from jobs.errors import IdempotencyMismatch
from jobs.mall import accepting, entries, orders
from jobs.mall.accepting import Outcome
from web import api_entries, api_orders
from web.admission import Kind
from web.express import Call
from web.problems import InvalidFields
from web.state import State


class SingleEntry(Call):
    """One entry as JSON."""

    __slots__ = ("_entry",)
    path = api_entries.PATH
    kind = Kind.ENTRIES
    needs = frozenset({Scope.ENTRIES})

    def read(self, here: State) -> None:
        """As `post_entries` does."""
        self._entry = entries.parse(memoryview(self.cycle.body), settings=here.settings, zone=here.zone, now=time.time())

    def carry(self, here: State) -> None:
        """With the other entries."""
        here.coalescer.carry((self._entry,), self)

    def set_result(self, fresh: list[bool]) -> None:
        """Writes the answer."""
        self.answer(*ENTRY_ANSWERS[fresh[0]])


class Order(Call):
    """One order that needs no second look at its body."""

    __slots__ = ("_sent",)
    path = api_orders.PATH
    kind = Kind.ORDERS
    needs = frozenset(api_orders.ORDERS)

    def read(self, here: State) -> None:
        """As `post_order` does."""
        key = api_orders.idempotency_key(self.header(b"idempotency-key"))
        request = orders.decode(self.cycle.body)
        if refused := orders.problems(request, here.settings):
            raise InvalidFields(refused)
        self._sent = accepting.Sent(request, self.client, key, self.trace)

    def carry(self, here: State) -> None:
        """With the other orders."""
        here.orders.carry((self._sent,), self)

    def set_result(self, outcomes: list[Outcome]) -> None:
        """Writes the answer."""
        [accepted] = outcomes
        if isinstance(accepted, IdempotencyMismatch):
            self.set_exception(accepted)
            return
        head = b"content-length: %d\r\nlocation: %b\r\n" % (len(accepted.answer), api_orders.location(accepted).encode())
        if accepted.replayed:
            head += b"idempotency-replayed: true\r\n"
        self.answer(head, accepted.answer)


CALLS = {call.path: call for call in (SingleEntry, Order)}
ENTRY_ANSWERS = {
    new: (b"content-length: %d\r\nlocation: %b\r\n" % (len(body), api_entries.LOCATION.encode()), body)
    for new, body in api_entries.ANSWERS.items()
}
