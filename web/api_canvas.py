"""/v1/canvas: chains, groups and chords at work: their progress, their tree, an end before the end."""

import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobs.errors import InvalidField
from jobs.queue import canvas_store
from jobs.queue.canvas_store import CanvasView, TreePage
from web.audit import Done, audit
from web.http import WHOLE, answer, call, known_query, page_limit, paged, read_body
from web.operation import Operation, Parameter

MAX_DIGITS = 9
DIGITS = f"[0-9]{{1,{MAX_DIGITS}}}"


class CanvasList(msgspec.Struct, frozen=True):
    """Canvases that are neither finished nor cancelled."""

    canvases: list[CanvasView]


async def get_open(request: Request) -> Response:
    """Open canvases, those where something happened last first."""
    known_query(request, "limit")
    return answer(CanvasList(await call(request, canvas_store.open_canvases, page_limit(request))))


async def get_canvas(request: Request) -> Response:
    """A canvas: status, progress, its first failed members, its result unless that is long."""
    return answer(await call(request, canvas_store.get, request.path_params["id"]))


async def get_tree(request: Request) -> Response:
    """A node of a canvas, the outermost by default, and a page of its children with their states."""
    known_query(request, "node", "cursor", "limit")
    node = request.query_params.get("node", "0")
    if not node.isascii() or not node.isdigit() or len(node) > MAX_DIGITS:
        raise InvalidField("node", "the number of a node is needed")
    cursor, limit = request.query_params.get("cursor"), page_limit(request)
    return answer(await call(request, canvas_store.tree, request.path_params["id"], node=int(node), cursor=cursor, limit=limit))


async def cancel(request: Request) -> Response:
    """Start nothing more of a canvas and cancel its jobs that wait; those that run go on, and nothing follows from them."""
    canvas_id = request.path_params["id"]
    await read_body(request)
    await call(request, canvas_store.cancel, canvas_id, time.time())
    await audit(request, "cancel canvas", canvas_id)
    return answer(Done(canvas_id, "cancel"))


LIMIT = Parameter("limit", "entries at most", schema=WHOLE)
NODE = Parameter(
    "node", "the number of the node", schema={"type": "integer", "minimum": 0, "maximum": 10**MAX_DIGITS - 1, "default": 0}
)
OPERATIONS = (
    Operation("GET", "/v1/canvas", get_open, response=CanvasList, parameters=(LIMIT,)),
    Operation("GET", "/v1/canvas/{id}", get_canvas, response=CanvasView),
    Operation("GET", "/v1/canvas/{id}/tree", get_tree, response=TreePage, parameters=(NODE, *paged(DIGITS))),
    Operation("POST", "/v1/canvas/{id}/cancel", cancel, response=Done, also=(409,)),
)
