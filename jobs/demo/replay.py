"""Sends the plan at its own pace and watches what becomes of it, over HTTP and nothing else."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from jobs.demo.answers import Footfall, Order, Page, Problem, Summary, Taken
from jobs.demo.api import Api, NoAnswer, Unexpected
from jobs.demo.plan import Day, EntryPost, Expected, rfc3339
from jobs.demo.progress import Progress
from jobs.demo.sample import SampleOrder
from jobs.demo.table import Took
from jobs.demo.verdict import TERMINAL, Seen, SeenOrder

POLL_S = 0.5
READ_A_POLL = 96
READ_AT_ONCE = 8
PAGE = 100
MINUTE_S = 60


class Replay:
    """One run. `settle_s` is how long to wait, after the day's end, until everything has ended."""

    def __init__(
        self,
        api: Api,
        day: Day,
        posts: Sequence[EntryPost],
        orders: Sequence[SampleOrder],
        expected: Expected,
        *,
        run_id: str,
        gate: str,
        settle_s: float,
        progress: Progress,
        poll_s: float = POLL_S,
    ) -> None:
        self.seen = Seen()
        self._api, self._day, self._posts, self._orders, self._expected = api, day, posts, orders, expected
        self._run_id, self._gate, self._settle_s, self._progress, self._poll_s = run_id, gate, settle_s, progress, poll_s
        self._open: deque[str] = deque()
        self._all_sent = False
        self._lines_answered = self._orders_answered = 0

    async def run(self) -> Took:
        """Everything; what it saw is in `seen`."""
        began = time.monotonic()
        self._api.give_up_at = began + self._day.lasts_s + self._settle_s
        await self._guarded(self._count_before)
        watcher = asyncio.create_task(self._watch())
        try:
            await self._send(began)
            sent = time.monotonic()
            self._all_sent = True
            await watcher
        finally:
            watcher.cancel()
            self._progress.end()
        ended = time.monotonic()
        await self._guarded(self._read_again)
        for status in TERMINAL:
            await self._guarded(partial(self._read_list, status))
        await self._guarded(self._count_after)
        return Took(sent - began, ended - began, self._api.retries)

    async def _send(self, began: float) -> None:
        """Starts each request when it is due and waits for all; the client's pool bounds how many are under way."""
        work: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (post.due_s, partial(self._post_entries, post)) for post in self._posts
        ]
        pause_s = self._day.lasts_s / max(len(self._orders), 1)
        work += [(number * pause_s, partial(self._post_order, order)) for number, order in enumerate(self._orders)]
        async with asyncio.TaskGroup() as requests:
            for due_s, send in sorted(work, key=lambda item: item[0]):
                await asyncio.sleep(began + due_s - time.monotonic())
                requests.create_task(self._guarded(send))

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs one piece; a request that failed is written down for the verdict and stops nothing else."""
        try:
            await work()
        except (NoAnswer, Unexpected) as error:
            self.seen.fault(str(error))

    async def _post_entries(self, post: EntryPost) -> None:
        headers = {"Content-Type": "application/x-ndjson"} if post.batch else {}
        body = b"\n".join(line.body for line in post.lines)
        answer = await self._api.request("POST", "/v1/entries", body=body, headers=headers)
        self._lines_answered += len(post.lines)
        entries = self.seen.entries
        if answer.uncertain:
            entries.uncertain += sum(not line.broken for line in post.lines)
        if answer.status == 422 and not post.batch:
            self._note_rejected(post, 1, str(answer.read(Problem)))
            return
        if answer.status != 202:
            raise answer.unexpected()
        taken = answer.read(Taken)
        entries.accepted += taken.accepted
        entries.duplicates += taken.duplicates
        for rejected in taken.rejected:
            self._note_rejected(post, rejected.line, rejected.error)

    def _note_rejected(self, post: EntryPost, number: int, reason: str) -> None:
        """Books a rejection under what we broke on that line; a valid line has no business here and shows as such."""
        known = 1 <= number <= len(post.lines)
        kind = (post.lines[number - 1].broken or "valid entry") if known else "line that was not sent"
        self.seen.entries.rejected[kind] += 1
        self.seen.entries.reasons.setdefault(kind, reason)

    async def _post_order(self, order: SampleOrder) -> None:
        headers = {"Idempotency-Key": f"{self._run_id}-{order.reference}"}
        answer = await self._api.request("POST", "/v1/orders", body=order.body, headers=headers)
        self._orders_answered += 1
        seen = self.seen
        if answer.status == 202:
            accepted = answer.read(Order)
            seen.orders_answered_202 += 1
            if accepted.id not in seen.orders:
                seen.orders[accepted.id] = SeenOrder(accepted.status)
                self._open.append(accepted.id)
            if order.refusable:
                seen.fault("order with a quantity of zero or below was accepted", order.reference)
            if not answer.location.endswith(f"/v1/orders/{accepted.id}"):
                seen.fault("accepted order without its Location", accepted.id)
        elif answer.status == 422:
            problem = answer.read(Problem)
            seen.refused += 1
            # Once an order, however many of its lines have the same fault.
            seen.refusals.update({error.kind for error in problem.errors})
            if not order.refusable:
                seen.fault(f"good order was refused: {problem}", order.reference)
            elif not any("quantity" in error.field for error in problem.errors):
                seen.fault(f"order was refused for another reason than its quantity: {problem}", order.reference)
        else:
            raise answer.unexpected()

    async def _watch(self) -> None:
        """Reads the summary and the open orders until all has been sent and has ended, or the time is up."""
        while True:
            all_sent = self._all_sent
            await self._guarded(self._read_summary)
            await self._read_orders([self._open.popleft() for _ in range(min(len(self._open), READ_A_POLL))])
            self._show()
            if all_sent and not self._open and self.seen.entries.pending == 0:
                return
            if time.monotonic() >= self._api.give_up_at:
                return
            await asyncio.sleep(self._poll_s)

    async def _read_summary(self) -> None:
        summary = (await self._api.get("/v1/footfall/summary")).read(Summary)
        self.seen.summaries += 1
        self.seen.entries.pending = summary.pending
        if summary.accepted != summary.counted + summary.pending:
            self.seen.unbalanced.append(f"{summary.accepted} != {summary.counted} + {summary.pending}")

    async def _read_orders(self, order_ids: Sequence[str]) -> None:
        for first in range(0, len(order_ids), READ_AT_ONCE):
            some = order_ids[first : first + READ_AT_ONCE]
            await asyncio.gather(*(self._guarded(partial(self._read_order, order_id)) for order_id in some))
        self._open.extend(order_id for order_id in order_ids if self.seen.orders[order_id].status not in TERMINAL)

    async def _read_order(self, order_id: str) -> None:
        order = (await self._api.get(f"/v1/orders/{order_id}")).read(Order)
        seen = self.seen.orders[order_id]
        seen.status, seen.reason, seen.tracking_number = order.status, order.reason or "", order.tracking_number or ""
        if order.status in TERMINAL:
            seen.ends.add(order.status)

    async def _read_again(self) -> None:
        """Every order once more, when all have ended: an end is final."""
        await self._read_orders(list(self.seen.orders))

    async def _read_list(self, status: str) -> None:
        """Walks the list of a status to its end: each order must be in its own and in no other."""
        query = {"status": status, "limit": str(PAGE)}
        while True:
            answer = await self._api.get("/v1/orders", **query)
            page = answer.read(Page)
            for order in page.orders:
                if order.id in self.seen.orders:
                    self.seen.orders[order.id].listed_in.add(status)
            if not page.next_cursor:
                return
            if page.next_cursor == query.get("cursor"):
                raise Unexpected(answer.request, answer.status, "next_cursor leads to the same page again")
            query["cursor"] = page.next_cursor

    async def _counted(self) -> int:
        """People counted in through the run's own gate, over exactly the minutes on which the day was laid."""
        first = math.floor(self._day.begins_at / MINUTE_S) * MINUTE_S
        last = math.ceil(self._day.ends_at / MINUTE_S) * MINUTE_S
        query = {"from": rfc3339(first), "to": rfc3339(last), "bucket": "minute", "gate": self._gate}
        return (await self._api.get("/v1/footfall", **query)).read(Footfall).totals.in_

    async def _count_before(self) -> None:
        self.seen.entries.counted_before = await self._counted()

    async def _count_after(self) -> None:
        self.seen.entries.counted_after = await self._counted()

    def _show(self) -> None:
        lines, orders = self._expected.entries_sent, len(self._orders)
        ended = len(self.seen.orders) - len(self._open)
        done = self._lines_answered + self._orders_answered + ended
        entries_note = f"entries {self._lines_answered}/{lines}, {self.seen.entries.pending} pending"
        orders_note = f"orders {self._orders_answered}/{orders}, {ended} ended"
        self._progress.show(done, lines + orders + self._expected.orders_accepted, f"{entries_note}; {orders_note}")
