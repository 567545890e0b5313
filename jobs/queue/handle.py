"""A job in the hands of whoever enqueued it: its status, result, attempts and progress; waiting for its end; cancelling it."""

import asyncio
import threading
import time
from contextlib import aclosing
from typing import Any

import redis
import redis.asyncio

from jobs import connections, keys
from jobs.connections import MAX_SYNC_CONNECTIONS, is_away
from jobs.errors import JobFailed, JobGone, NotFinished, NotFound
from jobs.queue import job_store
from jobs.queue.attempts import Attempt
from jobs.queue.job_store import JobView
from jobs.queue.progress import Progress
from jobs.queue.watching import ENDED, changes

SLICE_S = 2.0
"""How long a waiting thread blocks on the result stream; also how late it sees a job end that leaves no entry there."""
LOOK_S = 0.25
AWAY_S = 0.5
MAX_BLOCKED = MAX_SYNC_CONNECTIONS // 2
"""Threads of a process that block in Redis: half a pool stays free. Further ones look at their jobs every `LOOK_S` instead."""
_blocking = threading.BoundedSemaphore(MAX_BLOCKED)


class JobHandle:
    """One job. Without a client of its own kind a call uses that of the process, or of the event loop.

    Every call raises JobGone when Redis knows no such job; what finishes without a kept result is gone at its end.
    """

    def __init__(self, job_id: str, client: redis.Redis | redis.asyncio.Redis | None = None) -> None:
        self.id = job_id
        self._client = client

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    def view(self) -> JobView:
        """All there is to know."""
        try:
            return job_store.get(self._sync(), self.id)
        except NotFound:
            raise JobGone("job", self.id) from None

    async def view_async(self) -> JobView:
        """The async twin of `view`."""
        try:
            return await job_store.get_async(self._async(), self.id)
        except NotFound:
            raise JobGone("job", self.id) from None

    def status(self) -> str:
        """RQ's word: queued, scheduled, started, finished, failed, canceled, ..."""
        return self.view().status

    def attempts(self) -> list[Attempt]:
        """The attempts that failed."""
        return self.view().attempts

    def progress(self) -> Progress | None:
        """What the present or last run reported last."""
        return self.view().progress

    def result(self) -> Any:
        """What the task returned. Raises NotFinished, or JobFailed for a job that is dead, cancelled or stopped."""
        return _result(self.view())

    async def result_async(self) -> Any:
        """The async twin of `result`."""
        return _result(await self.view_async())

    def cancel(self) -> JobView:
        """Cancels the job if it has not started. Raises Conflict for one that has."""
        return job_store.cancel(self._sync(), self.id, time.time())

    async def cancel_async(self) -> JobView:
        """The async twin of `cancel`."""
        return await job_store.cancel_async(self._async(), self.id, time.time())

    def wait(self, timeout_s: float) -> Any:
        """Blocks until the job has ended and returns its result. Raises what `result` raises, NotFinished after `timeout_s`."""
        client, until = self._sync(), time.monotonic() + timeout_s
        while True:
            left_s = until - time.monotonic()
            try:
                # The last entry first: whatever ends the job after this look is newer, and wakes the read that follows.
                with client.pipeline(transaction=False) as pipeline:
                    pipeline.xrevrange(keys.results(self.id), count=1)
                    pipeline.hget(keys.job(self.id), "status")
                    entries, status = pipeline.execute()
                if status is None or status.decode() in ENDED or left_s <= 0:
                    return self.result()
                self._block(client, entries[0][0] if entries else "0-0", min(left_s, SLICE_S))
            except redis.exceptions.RedisError as error:
                if left_s <= 0 or not is_away(error):
                    raise
                time.sleep(min(left_s, AWAY_S))

    async def wait_async(self, timeout_s: float) -> Any:
        """The async twin of `wait`."""
        try:
            async with asyncio.timeout(timeout_s), aclosing(changes(self._async(), self.id)) as seen:
                async for _ in seen:
                    pass
        except TimeoutError:
            pass  # `result_async` says how the job stands
        return await self.result_async()

    def _block(self, client: redis.Redis, after: str, for_s: float) -> None:
        if _blocking.acquire(timeout=min(for_s, LOOK_S)):
            try:
                client.xread({keys.results(self.id): after}, count=1, block=max(1, round(for_s * 1_000)))
            finally:
                _blocking.release()

    def _sync(self) -> redis.Redis:
        return self._client if isinstance(self._client, redis.Redis) else connections.process_client()

    def _async(self) -> redis.asyncio.Redis:
        return self._client if isinstance(self._client, redis.asyncio.Redis) else connections.loop_client()


def _result(view: JobView) -> Any:
    if view.status == "finished":
        return view.result
    if view.status not in ENDED:
        raise NotFinished(view.id, view.status)
    error_type = view.attempts[-1].error_type if view.attempts and not view.reason else ""
    raise JobFailed(view.id, view.status, error_type, view.reason or view.error or "")
