"""Canvases as they stand in Redis: looked at, cancelled, and healed when a member's job is lost."""

import re
from typing import Any

import msgspec
import redis

from jobs import crash_points, keys, log
from jobs.connections import is_away
from jobs.errors import Conflict, InvalidField, NotFound
from jobs.queue.canvas_effects import TOLD
from jobs.queue.canvas_program import Kind, Node
from jobs.queue.job import CANCELLED_TTL_S, JOB_ID
from jobs.queue.script import Argument, beside, exchange, is_stale

CANCEL_JOB = beside(__file__, "cancel")
LOST = beside(__file__, "canvas_lost")
MAX_SHOWN_BYTES = 100_000
"""A longer result is not part of a view: its reader asks the handle."""
MAX_SHOWN_FAILURES = 20
PAGE = 50
"""Canvases that one script looks at: with as many members at work as can be, some 15 ms of Redis' time."""
RESTARTED = 500
"""So many members are restarted in one pass at most: the scheduler has other duties."""
STATES = {b"\0": "waiting", b"o": "started", b"s": "started", b"d": "done", b"f": "failed"}
KINDS = {Kind.JOB: "job", Kind.SEQ: "chain", Kind.PAR: "group"}
FIELDS = ("status", "total", "done", "failed", "created_at", "ended_at")
logger = log.get("canvas")


class Failure(msgspec.Struct, frozen=True):
    """A member that ended without a result: how and why."""

    node: int
    job_id: str
    error: str
    failed_at: float


class CanvasView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A canvas: `status` is running, failed (others go on), finished or cancelled; the counts are of member jobs.

    `result` is that of a finished canvas, or left out when its JSON has more than 100,000 bytes.
    """

    id: str
    status: str
    total: int
    done: int
    failed: int
    created_at: float
    ended_at: float | None = None
    result: Any = None
    failures: list[Failure] = []


class NodeView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node: `kind` is job, chain or group, `state` waiting, started, done or failed. Only a job has a task and an id."""

    node: int
    kind: str
    state: str
    children: int = 0
    task: str | None = None
    job_id: str | None = None
    error: str | None = None


class TreePage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node and some of its children; `next_cursor` leads to the next ones."""

    node: NodeView
    children: list[NodeView]
    next_cursor: str | None = None


def get(client: redis.Redis, canvas_id: str) -> CanvasView:
    """One canvas with its result, if it is short, and its first failed members. Raises NotFound."""
    key, results = keys.canvas(_checked(canvas_id)), keys.canvas_results(canvas_id)
    with client.pipeline(transaction=True) as pipeline:
        pipeline.hmget(key, FIELDS)
        pipeline.zrange(keys.canvas_failed(canvas_id), 0, MAX_SHOWN_FAILURES - 1, withscores=True)
        pipeline.hstrlen(results, "0")
        found, failed, size = pipeline.execute()
    view = _view(canvas_id, found)
    if view is None:
        raise NotFound("canvas", canvas_id)
    if view.status == "finished" and size <= MAX_SHOWN_BYTES:
        encoded = client.hget(results, "0")
        return msgspec.structs.replace(view, result=msgspec.json.decode(encoded) if encoded else None)
    errors = client.hmget(results, [node for node, _at in failed]) if failed else []
    failures = [
        Failure(int(node), f"{canvas_id}-{int(node)}", _text(error), at) for (node, at), error in zip(failed, errors, strict=True)
    ]
    return msgspec.structs.replace(view, failures=failures)


def open_canvases(client: redis.Redis, limit: int) -> list[CanvasView]:
    """Canvases that are neither finished nor cancelled, those where something happened last first."""
    ids = [canvas_id.decode() for canvas_id in client.zrange(keys.CANVASES_OPEN, 0, limit - 1, desc=True)]
    with client.pipeline(transaction=False) as pipeline:
        for canvas_id in ids:
            pipeline.hmget(keys.canvas(canvas_id), FIELDS)
        views = [_view(canvas_id, found) for canvas_id, found in zip(ids, pipeline.execute(), strict=True)]
    return [view for view in views if view is not None]


def tree(client: redis.Redis, canvas_id: str, *, node: int = 0, cursor: str | None = None, limit: int = 50) -> TreePage:
    """A node and a page of its children. Raises NotFound, also for a node that the canvas has not, and InvalidField."""
    text = client.hget(keys.canvas_nodes(_checked(canvas_id)), node)
    if text is None:
        raise NotFound("node of a canvas", f"{canvas_id}:{node}")
    parent = Node.read(text)
    first, end = parent.first, parent.first + parent.count
    if cursor is not None:
        if not cursor.isascii() or not cursor.isdigit() or not first <= int(cursor) <= end:
            raise InvalidField("cursor", "not a cursor of this list")
        first = int(cursor)
    last = min(first + limit, end)
    own, *children = _nodes(client, canvas_id, [node, *range(first, last)])
    return TreePage(own, children, str(last) if last < end else None)


def cancel(client: redis.Redis, canvas_id: str, now: float) -> None:
    """Starts nothing more of the canvas and takes its waiting jobs off their queues; those that run go on unheard.

    Raises NotFound, or Conflict when the canvas has finished. May be called again when it was killed in the middle.
    """
    before = _tell(client, "cancelled", canvas_id, -1, now)
    if not before:
        raise NotFound("canvas", canvas_id)
    if before == b"finished":
        raise Conflict("the canvas is finished", before.decode())
    crash_points.reach("canvas.cancelled")
    for job_id in _jobs_at_work(client, canvas_id):
        CANCEL_JOB(client, [keys.job(job_id), keys.SCHEDULED_JOBS], [job_id, repr(now), CANCELLED_TTL_S])


def reconcile(client: redis.Redis, *, now: float, after_s: float) -> list[str]:
    """Restarts the lost members of open canvases in which nothing has happened for `after_s`; what it did, a line each.

    Lost is a member at work whose job is gone from Redis (deleted by hand, say): nobody would hand over from there. One whose
    job is there, but in no list, is found like every other job.
    """
    done: list[str] = []
    still = client.zcount(keys.CANVASES_OPEN, "-inf", now - after_s)
    for offset in range(still - still % PAGE, -1, -PAGE):  # from the end: what a restart moves shifts no page before it
        ids = client.zrange(keys.CANVASES_OPEN, "-inf", now - after_s, byscore=True, offset=offset, num=PAGE)
        found = LOST(client, [keys.canvas(canvas_id.decode()) for canvas_id in ids], [])
        lost = list(zip(map(bytes.decode, found[::2]), found[1::2], strict=True))[: RESTARTED - len(done)]
        answers = exchange(client, [(TOLD, *_telling("lost", canvas_id, node, now)) for canvas_id, node in lost]) if lost else []
        for (canvas_id, node), before in zip(lost, answers, strict=True):
            if isinstance(before, Exception):
                if is_away(before) or is_stale(before):
                    raise before
                logger.error("lost member not made anew", job_id=f"{canvas_id}-{node}", error=str(before))
            elif before:
                crash_points.reach("canvas.healed")
                done.append(f"canvas {canvas_id}: the job {canvas_id}-{node} was lost and is made anew")
        if len(done) >= RESTARTED:
            break
    return done


def restart(client: redis.Redis, canvas_id: str, node: int, now: float) -> bool:
    """Gives a lost member, or a failed one whose dead letter was discarded, a new job; False when there is nothing to do."""
    return bool(_tell(client, "lost", canvas_id, node, now))


def _tell(client: redis.Redis, what: str, canvas_id: str, node: int, now: float) -> bytes:
    """Tells the canvas without a guard; returns the status that it had, empty when nothing came of it."""
    before: bytes = TOLD(client, *_telling(what, canvas_id, node, now))
    return before


def _telling(what: str, canvas_id: str, node: int, now: float) -> tuple[list[str], list[Argument]]:
    return [keys.canvas(_checked(canvas_id)), keys.CANVASES_OPEN], [what, node, "", repr(now), ""]


def _jobs_at_work(client: redis.Redis, canvas_id: str) -> list[str]:
    states = client.get(keys.canvas_states(canvas_id)) or b""
    return [f"{canvas_id}-{found.start()}" for found in re.finditer(b"s", states)]


def _checked(canvas_id: str) -> str:
    """The id. Raises NotFound for one that no canvas can have: it might lead to another key."""
    if not JOB_ID.fullmatch(canvas_id):
        raise NotFound("canvas", canvas_id)
    return canvas_id


def _view(canvas_id: str, found: list[bytes | None]) -> CanvasView | None:
    status, total, done, failed, created_at, ended_at = (_text(value) for value in found)
    if not status:
        return None
    ended = float(ended_at) if ended_at else None
    return CanvasView(canvas_id, status, int(total), int(done), int(failed), float(created_at), ended)


def _nodes(client: redis.Redis, canvas_id: str, numbers: list[int]) -> list[NodeView]:
    with client.pipeline(transaction=True) as pipeline:
        pipeline.hmget(keys.canvas_nodes(canvas_id), numbers)
        for number in numbers:
            pipeline.getrange(keys.canvas_states(canvas_id), number, number)
        texts, *states = pipeline.execute()
    nodes = [Node.read(text) for text in texts]
    with client.pipeline(transaction=False) as pipeline:
        for number, node, state in zip(numbers, nodes, states, strict=True):
            pipeline.hget(keys.canvas_nodes(canvas_id), f"t{node.template}")
            pipeline.hget(keys.canvas_results(canvas_id), number if state == b"f" else "")  # results may be large
        found = pipeline.execute()
    views = []
    for number, node, state, template, error in zip(numbers, nodes, states, found[::2], found[1::2], strict=True):
        view = NodeView(number, KINDS[node.kind], STATES[state], node.count, error=_text(error) if state == b"f" else None)
        if node.kind is Kind.JOB:
            task = msgspec.json.decode(template)[-1]
            view = msgspec.structs.replace(view, task=task, job_id=f"{canvas_id}-{number}")
        views.append(view)
    return views


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
