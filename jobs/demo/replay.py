"""Sends the plan at its own pace and watches what becomes of it, over HTTP and nothing else."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import httpx
import msgspec

from jobs.demo.api import Api, RequestFailed, read
from jobs.demo.plan import Day, EntryPost, rfc3339
from jobs.demo.sample import SampleOrder
from jobs.demo.verdict import Seen
from jobs.mall.footfall import Series, Summary
from jobs.mall.orders import ENDED, FieldError, OrderView

POLL_S = 1.0
MINUTE_S = 60


class Rejected(msgspec.Struct):
    """One line of a batch that was refused; lines count from 1."""

    line: int
    error: str


class Taken(msgspec.Struct):
    """202 to POST /v1/entries."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]


class Problem(msgspec.Struct):
    """problem+json, as far as it is checked."""

    detail: str
    errors: list[FieldError] = []


class Replay:
    """One run through a gate of its own; what it saw is in `seen`. `show` is called with done, total and a note."""

    def __init__(self, api: Api, day: Day, run_id: str, gate: str, show: Callable[[int, int, str], None]) -> None:
        self.seen = Seen()
        self._api, self._day, self._run_id, self._gate, self._show = api, day, run_id, gate, show
        self._n_done = self._n_all = 0

    async def run(self, posts: Sequence[EntryPost], orders: Sequence[SampleOrder]) -> None:
        """Starts each request when it is due, waits until all has ended or the API's time is up, and reads the count."""
        began = time.monotonic()
        pause_s = self._day.lasts_s / len(orders)
        work: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            *((post.due_s, partial(self._post_entries, post)) for post in posts),
            *((number * pause_s, partial(self._follow_order, order)) for number, order in enumerate(orders)),
        ]
        self._n_all = len(work)
        async with asyncio.TaskGroup() as requests:
            requests.create_task(self._guarded(self._watch))
            for due_s, do in sorted(work, key=lambda item: item[0]):
                await asyncio.sleep(began + due_s - time.monotonic())
                requests.create_task(self._guarded(do))
        await self._guarded(self._count)
        self.seen.repeated = self._api.repeated

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs one piece; a request that failed is written down for the verdict and stops nothing else."""
        try:
            await work()
        except RequestFailed as error:
            self.seen.faults.append(str(error))
        finally:
            self._n_done += 1

    async def _post_entries(self, post: EntryPost) -> None:
        headers = {"Content-Type": "application/x-ndjson"} if post.batch else {}
        body = b"\n".join(line.body for line in post.lines)
        response = await self._api.request("POST", "/v1/entries", body, headers)
        if response.status_code == 422 and not post.batch:
            taken = Taken(0, 0, [Rejected(1, read(response, 422, Problem).detail)])
        else:
            taken = read(response, 202, Taken)
        self.seen.accepted += taken.accepted
        self.seen.duplicates += taken.duplicates
        self.seen.rejected.update(rejected.error for rejected in taken.rejected)
        broken = [number for number, line in enumerate(post.lines, start=1) if line.broken]
        if [rejected.line for rejected in taken.rejected] != broken:
            self.seen.faults.append(f"an entry post with the broken lines {broken} had rejected: {taken.rejected}")

    async def _follow_order(self, order: SampleOrder) -> None:
        """Posts the order and reads it until it has ended."""
        headers = {"Idempotency-Key": f"{self._run_id}-{order.reference}"}
        response = await self._api.request("POST", "/v1/orders", order.body, headers)
        if response.status_code == 422:
            self._note_refusal(order, read(response, 422, Problem))
            return
        now = read(response, 202, OrderView)
        if order.refusable:
            self.seen.faults.append(f"order {order.reference} with a quantity of zero or below was accepted as {now.id}")
        self.seen.orders[now.id] = now
        while now.status not in ENDED and time.monotonic() < self._api.give_up_at:
            await asyncio.sleep(POLL_S)
            now = self.seen.orders[now.id] = await self._api.get(f"/v1/orders/{now.id}", OrderView)

    def _note_refusal(self, order: SampleOrder, problem: Problem) -> None:
        # Without line numbers and values: the same for every such fault, and counted once an order.
        kinds = {f"{re.sub('[0-9]+', '', error.field)}: {error.reason.partition(', got ')[0]}" for error in problem.errors}
        self.seen.refused["; ".join(sorted(kinds))] += 1
        if not order.refusable or not any("quantity" in kind for kind in kinds):
            self.seen.faults.append(f"order {order.reference} was refused: {problem.detail}")

    async def _watch(self) -> None:
        """Reads the summary until all else is done and all is counted, or the time is up."""
        while True:
            all_done = self._n_done == self._n_all
            summary = await self._api.get("/v1/footfall/summary", Summary)
            self.seen.pending = summary.pending
            if summary.accepted != summary.counted + summary.pending:
                self.seen.faults.append(f"accepted != counted + pending in {summary}")
            self._show(self._n_done, self._n_all, f"{summary.pending} entries pending, {len(self.seen.orders)} orders accepted")
            if (all_done and not summary.pending) or time.monotonic() >= self._api.give_up_at:
                return
            await asyncio.sleep(POLL_S)

    async def _count(self) -> None:
        """Reads the people counted through the run's own gate, from the minute on in which the day begins."""
        path = httpx.URL("/v1/footfall", params={"from": rfc3339(self._day.at(0) - MINUTE_S), "gate": self._gate})
        self.seen.counted = (await self._api.get(str(path), Series)).totals.in_
