"""Sends the plan at its own pace and watches what becomes of it, over HTTP and nothing else."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import httpx
import msgspec

from jobs.demo.api import MAX_SHOWN, Api, RequestFailed, read
from jobs.demo.plan import DAY_S, EntryPost, Run
from jobs.demo.sample import SampleOrder
from jobs.demo.verdict import Seen
from jobs.mall.footfall import Series, Summary
from jobs.mall.orders import ENDED, OrderView

POLL_S = 1.0


class Rejected(msgspec.Struct):
    """One line of a batch that was refused; lines count from 1."""

    line: int


class Taken(msgspec.Struct):
    """202 to POST /v1/entries."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]


class Replay:
    """One run; what it saw is in `seen`. `show` is called with how much has been done and a note."""

    def __init__(self, api: Api, run: Run, show: Callable[[int, str], None]) -> None:
        self.seen = Seen()
        self._api, self._run, self._show = api, run, show
        self._n_done = self._n_all = 0

    async def run(self, posts: Sequence[EntryPost], orders: Sequence[SampleOrder]) -> None:
        """Starts each request when it is due, waits until all has ended or the API's time is up, and reads the count."""
        began = time.monotonic()
        pause_s = self._run.lasts_s / len(orders)
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
        is_batch = len(post.lines) > 1
        headers = {"Content-Type": "application/x-ndjson" if is_batch else "application/json"}
        response = await self._api.request("POST", "/v1/entries", b"\n".join(post.lines), headers)
        refused = response.status_code == 422 and not is_batch
        taken = Taken(0, 0, [Rejected(1)]) if refused else read(response, 202, Taken)
        self.seen.accepted += taken.accepted
        self.seen.duplicates += taken.duplicates
        self.seen.rejected += len(taken.rejected)
        if tuple(rejected.line for rejected in taken.rejected) != post.broken:
            self.seen.faults.append(f"an entry post with the broken lines {post.broken} had rejected: {taken.rejected}")

    async def _follow_order(self, order: SampleOrder) -> None:
        """Posts the order and reads it until it has ended."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"{self._run.id}-{order.reference}"}
        response = await self._api.request("POST", "/v1/orders", order.body, headers)
        if response.status_code == 422:
            self.seen.refused += 1
            if not order.refusable or b".quantity" not in response.content:
                self.seen.faults.append(f"order {order.reference} was refused: {response.text[:MAX_SHOWN]}")
            return
        now = read(response, 202, OrderView)
        if order.refusable:
            self.seen.faults.append(f"order {order.reference} with a quantity of zero or below was accepted as {now.id}")
        self.seen.orders[now.id] = now
        while now.status not in ENDED and time.monotonic() < self._api.give_up_at:
            await asyncio.sleep(POLL_S)
            now = self.seen.orders[now.id] = await self._api.get(f"/v1/orders/{now.id}", OrderView)

    async def _watch(self) -> None:
        """Reads the summary until all else is done and all is counted, or the time is up."""
        while True:
            all_done = self._n_done == self._n_all
            summary = await self._api.get("/v1/footfall/summary", Summary)
            self.seen.pending = summary.pending
            if summary.accepted != summary.counted + summary.pending:
                self.seen.faults.append(f"accepted != counted + pending in {summary}")
            self._show(self._n_done, f"{summary.pending} entries pending, {len(self.seen.orders)} orders accepted")
            if (all_done and not summary.pending) or time.monotonic() >= self._api.give_up_at:
                return
            await asyncio.sleep(POLL_S)

    async def _count(self) -> None:
        """Reads the people counted through the run's own gate; the replayed day lies in the last 24 hours before the start."""
        begin = datetime.fromtimestamp(self._run.started_at - DAY_S, UTC).isoformat()
        path = httpx.URL("/v1/footfall", params={"from": begin, "gate": self._run.gate})
        self.seen.counted = (await self._api.get(str(path), Series)).totals.in_
