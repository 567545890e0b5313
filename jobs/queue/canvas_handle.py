"""Launching a canvas, and the handle by which whoever launched it follows it."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec
import redis
import redis.asyncio

from jobs import connections, keys
from jobs.errors import CanvasFailed, CanvasNotFinished, InvalidField, NotFound
from jobs.queue import canvas_store
from jobs.queue.canvas_program import Program
from jobs.queue.canvas_store import CanvasView, TreePage
from jobs.queue.job import JOB_ID
from jobs.queue.script import beside

LAUNCH = beside(__file__, "canvas_launch")
MAX_ID = 100
"""Job ids have at most 128 characters, and a member's is the canvas' id and its node."""
RESULT_TTL_S = 3_600
LAID_TTL_S = 600
"""How long nodes lie ready for a launch that its program may not live to see."""
LAID_AT_ONCE = 500
BLOCK_S = 2.0
"""How long one read waits: below the socket timeouts of our clients."""
AWAY_S = 0.5


class Canvas(Protocol):
    """Whatever compiles to a program."""

    def program(self, now: float) -> Program:
        """The nodes."""


class CanvasHandle:
    """A launched canvas, by this process or another. Like a JobHandle it takes the client of the process or of the event loop.

    Every call raises NotFound when Redis knows no such canvas (any more).
    """

    def __init__(self, canvas_id: str, client: redis.Redis | redis.asyncio.Redis | None = None) -> None:
        self.id = canvas_id
        self._client = client

    def __repr__(self) -> str:
        return f"CanvasHandle({self.id!r})"

    def view(self) -> CanvasView:
        """Status, progress, first failed members."""
        return canvas_store.get(self._sync(), self.id)

    def status(self) -> str:
        """running, failed (a member has; others go on), finished or cancelled."""
        return self.view().status

    def tree(self, node: int = 0, cursor: str | None = None, limit: int = 50) -> TreePage:
        """A node and a page of its children with their states. Raises InvalidField."""
        return canvas_store.tree(self._sync(), self.id, node=node, cursor=cursor, limit=limit)

    def cancel(self) -> None:
        """Starts nothing more and cancels the jobs that wait. Raises Conflict when the canvas has finished."""
        canvas_store.cancel(self._sync(), self.id, time.time())

    def result(self) -> Any:
        """What the canvas returned. Raises what `wait` raises."""
        return self.wait(0.0)

    def wait(self, timeout_s: float) -> Any:
        """Blocks until there is a result. Raises CanvasFailed once a member has failed, CanvasNotFinished after `timeout_s`."""
        client, until = self._sync(), time.monotonic() + timeout_s
        while True:
            try:
                with client.pipeline(transaction=False) as pipeline:
                    _look(pipeline, self.id)
                    seen, status, result = pipeline.execute()
                if _is_over(self.id, status, until):
                    return msgspec.json.decode(result)
                client.xread({keys.canvas_events(self.id): seen[0][0] if seen else "0-0"}, block=_block_ms(until))
            except redis.exceptions.RedisError as error:
                if not connections.is_away(error) or time.monotonic() > until:
                    raise
                time.sleep(AWAY_S)

    async def wait_async(self, timeout_s: float) -> Any:
        """The async twin of `wait`."""
        client, until = self._async(), time.monotonic() + timeout_s
        while True:
            try:
                async with client.pipeline(transaction=False) as pipeline:
                    _look(pipeline, self.id)
                    seen, status, result = await pipeline.execute()
                if _is_over(self.id, status, until):
                    return msgspec.json.decode(result)
                await client.xread({keys.canvas_events(self.id): seen[0][0] if seen else "0-0"}, block=_block_ms(until))
            except redis.exceptions.RedisError as error:
                if not connections.is_away(error) or time.monotonic() > until:
                    raise
                await asyncio.sleep(AWAY_S)

    def _sync(self) -> redis.Redis:
        return self._client if isinstance(self._client, redis.Redis) else connections.process_client()

    def _async(self) -> redis.asyncio.Redis:
        return self._client if isinstance(self._client, redis.asyncio.Redis) else connections.loop_client()


def launch(
    client: redis.Redis,
    canvas: Canvas,
    *,
    canvas_id: str | None = None,
    now: float | None = None,
    result_ttl_s: int = RESULT_TTL_S,
) -> CanvasHandle:
    """Starts a canvas; a second launch under the same id starts nothing. Raises InvalidField before anything is written."""
    launch_id, laid, call = _launch_call(canvas, canvas_id, now, result_ttl_s)
    for fields in laid:
        with client.pipeline(transaction=True) as pipeline:
            _lay(pipeline, call[0][1], fields)
            pipeline.execute()
    LAUNCH(client, *call)
    return CanvasHandle(launch_id, client)


async def launch_async(
    client: redis.asyncio.Redis,
    canvas: Canvas,
    *,
    canvas_id: str | None = None,
    now: float | None = None,
    result_ttl_s: int = RESULT_TTL_S,
) -> CanvasHandle:
    """The async twin of `launch`."""
    launch_id, laid, call = _launch_call(canvas, canvas_id, now, result_ttl_s)
    for fields in laid:
        async with client.pipeline(transaction=True) as pipeline:
            _lay(pipeline, call[0][1], fields)
            await pipeline.execute()
    await LAUNCH.run(client, *call)
    return CanvasHandle(launch_id, client)


def _launch_call(
    canvas: Canvas, canvas_id: str | None, now: float | None, result_ttl_s: int
) -> tuple[str, Iterator[dict[str, bytes]], tuple[list[str], list[str | int]]]:
    """The canvas' id, the fields of its nodes in portions, and the keys and arguments of the launch script."""
    launch_id = uuid.uuid4().hex if canvas_id is None else canvas_id
    if not JOB_ID.fullmatch(launch_id) or len(launch_id) > MAX_ID:
        raise InvalidField("canvas_id", f"only letters, digits, _ and -, at most {MAX_ID}")
    at = time.time() if now is None else now
    program = canvas.program(at)
    laid_key = keys.canvas_laid(launch_id, uuid.uuid4().hex)
    args: list[str | int] = [repr(at), len(program.nodes), program.n_jobs, result_ttl_s]
    return launch_id, program.portions(LAID_AT_ONCE), ([keys.canvas(launch_id), laid_key], args)


def _lay(pipeline: Any, key: str, fields: dict[str, bytes]) -> None:
    pipeline.hset(key, mapping=fields)
    pipeline.expire(key, LAID_TTL_S)


def _look(pipeline: Any, canvas_id: str) -> None:
    pipeline.xrevrange(keys.canvas_events(canvas_id), count=1)
    pipeline.hget(keys.canvas(canvas_id), "status")
    pipeline.hget(keys.canvas_results(canvas_id), "0")


def _is_over(canvas_id: str, status: bytes | None, until: float) -> bool:
    if status is None:
        raise NotFound("canvas", canvas_id)
    if status in (b"failed", b"cancelled"):
        raise CanvasFailed(canvas_id, status.decode())
    if status != b"finished" and time.monotonic() >= until:
        raise CanvasNotFinished(canvas_id, status.decode())
    return status == b"finished"


def _block_ms(until: float) -> int:
    return max(1, round(min(until - time.monotonic(), BLOCK_S) * 1_000))
