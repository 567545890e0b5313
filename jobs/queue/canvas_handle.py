"""Launching a canvas, and the handle by which whoever launched it follows it."""

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import redis
import redis.asyncio

from jobs import connections, crash_points, keys
from jobs.errors import CanvasFailed, CanvasNotFinished, InvalidField, NotFound
from jobs.queue import canvas_store
from jobs.queue.canvas_store import CanvasView, TreePage
from jobs.queue.job import JOB_ID
from jobs.queue.script import beside

if TYPE_CHECKING:
    from jobs.queue.canvas_parts import Launchable  # which builds on this module

LAUNCH = beside(__file__, "canvas_launch")
MAX_ID = 100
"""Job ids have at most 128 characters, and a member's is the canvas' id and its node."""
RESULT_TTL_S = 3_600
LAID_TTL_S = 600
"""How long nodes lie ready for a launch that its program may not live to see."""
LAID_AT_ONCE = 500
EXPIRED = 2
"""The launch script's answer when they no longer do."""
FIRST_PAUSE_S = 0.01
LAST_PAUSE_S = 0.5
"""Whoever waits looks less and less often, and never blocks in Redis: a pool holds few connections."""


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
        client, began = self._sync(), time.monotonic()
        while True:
            try:
                with client.pipeline(transaction=False) as pipeline:
                    _look(pipeline, self.id)
                    status, result = pipeline.execute()
                if _is_over(self.id, status, began + timeout_s):
                    return msgspec.json.decode(result)
            except redis.exceptions.RedisError as error:
                if not connections.is_away(error) or time.monotonic() > began + timeout_s:
                    raise
            time.sleep(_pause_s(began, began + timeout_s))

    async def wait_async(self, timeout_s: float) -> Any:
        """The async twin of `wait`."""
        client, began = self._async(), time.monotonic()
        while True:
            try:
                async with client.pipeline(transaction=False) as pipeline:
                    _look(pipeline, self.id)
                    status, result = await pipeline.execute()
                if _is_over(self.id, status, began + timeout_s):
                    return msgspec.json.decode(result)
            except redis.exceptions.RedisError as error:
                if not connections.is_away(error) or time.monotonic() > began + timeout_s:
                    raise
            await asyncio.sleep(_pause_s(began, began + timeout_s))

    def _sync(self) -> redis.Redis:
        return self._client if isinstance(self._client, redis.Redis) else connections.process_client()

    def _async(self) -> redis.asyncio.Redis:
        return self._client if isinstance(self._client, redis.asyncio.Redis) else connections.loop_client()


def launch(
    client: redis.Redis,
    canvas: "Launchable",
    *,
    canvas_id: str | None = None,
    now: float | None = None,
    result_ttl_s: int = RESULT_TTL_S,
) -> CanvasHandle:
    """Starts a canvas in one round trip; a second launch under the same id starts nothing, whatever it holds.

    Raises InvalidField before anything is written, and TimeoutError when that took so long that a part has expired.
    """
    with client.pipeline(transaction=False) as pipeline:
        launch_id = _add_launch(pipeline, canvas, canvas_id, now, result_ttl_s)
        return _launched(launch_id, client, pipeline.execute()[-1])


async def launch_async(
    client: redis.asyncio.Redis,
    canvas: "Launchable",
    *,
    canvas_id: str | None = None,
    now: float | None = None,
    result_ttl_s: int = RESULT_TTL_S,
) -> CanvasHandle:
    """The async twin of `launch`. The canvas, which may be large, is compiled in a thread."""
    async with client.pipeline(transaction=False) as pipeline:
        launch_id = await asyncio.to_thread(_add_launch, pipeline, canvas, canvas_id, now, result_ttl_s)
        return _launched(launch_id, client, (await pipeline.execute())[-1])


def _add_launch(pipeline: Any, canvas: "Launchable", canvas_id: str | None, now: float | None, result_ttl_s: int) -> str:
    """Adds the laying of all nodes, some at a time, and the script that starts them; returns the canvas' id."""
    launch_id = uuid.uuid4().hex if canvas_id is None else canvas_id
    if not JOB_ID.fullmatch(launch_id) or len(launch_id) > MAX_ID:
        raise InvalidField("canvas_id", f"only letters, digits, _ and -, at most {MAX_ID}")
    if not isinstance(result_ttl_s, int) or result_ttl_s < 1:
        raise InvalidField("result_ttl_s", f"a whole number of seconds, at least 1, is needed, not {result_ttl_s!r}")
    at = time.time() if now is None else now
    program, laid = canvas.program(at), keys.canvas_laid(launch_id, uuid.uuid4().hex)
    for fields in program.portions(LAID_AT_ONCE):
        pipeline.hset(laid, mapping=fields)
        pipeline.expire(laid, LAID_TTL_S)
    n_nodes = len(program.nodes)
    args: list[str | int] = [repr(at), n_nodes, program.n_jobs, result_ttl_s, n_nodes + len(program.templates)]
    LAUNCH.in_multi(pipeline, [keys.canvas(launch_id), laid], args)
    crash_points.reach("canvas.asked")
    return launch_id


def _launched(canvas_id: str, client: redis.Redis | redis.asyncio.Redis, answer: int) -> CanvasHandle:
    crash_points.reach("canvas.launched")
    if answer == EXPIRED:
        raise TimeoutError(f"canvas {canvas_id}: more than {LAID_TTL_S} s went by while its nodes were laid ready")
    return CanvasHandle(canvas_id, client)


def _look(pipeline: Any, canvas_id: str) -> None:
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


def _pause_s(began: float, until: float) -> float:
    """A tenth of the time waited so far, within bounds."""
    now = time.monotonic()
    return max(0.0, min(max(FIRST_PAUSE_S, (now - began) / 10), LAST_PAUSE_S, until - now))
