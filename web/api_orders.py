"""/v1/orders and /v1/stock: accept, look at, follow and cancel orders."""

import re
import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated

import msgspec
from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from jobs import trace
from jobs.access.scopes import Scope
from jobs.errors import IdempotencyMismatch, InvalidField, Malformed
from jobs.mall import order_store, stock
from jobs.mall.accepting import MAX_KEY, Accepted, Sent
from jobs.mall.order_store import OrderPage
from jobs.mall.orders import (
    ENDED,
    MAX_NAME,
    PRINTABLE,
    SKU_SCHEMA,
    FieldError,
    OrderRequest,
    OrderView,
    Status,
    problems,
    without,
)
from jobs.mall.packing import Slip
from jobs.mall.stock import MAX_ON_HAND, Stock
from web import examples, slip_page
from web.admission import Kind
from web.audit import audit
from web.field_errors import MAX_ERRORS
from web.http import PAGE, answer, paging, read_body, read_json
from web.operation import Operation, Parameter
from web.problems import InvalidFields
from web.state import State, state
from web.streams import LAST_SEEN, event_stream, no_more_events

PATH = "/v1/orders"
KEY = re.compile(r'"(?P<quoted>[ !#-\[\]-~]+)"|(?P<bare>[!#-~]+)')
"""What RFC 8941 allows in a string, and as much of it as needs no quotes."""


class StockRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PUT /v1/stock/{sku}."""

    on_hand: Annotated[int, msgspec.Meta(ge=0, le=MAX_ON_HAND)]


async def post_order(request: Request) -> Response:
    """Accept an order. Same key and body: the same answer again; same key, other body: 422."""
    here = state(request)
    key = idempotency_key(request.headers.get("idempotency-key", ""))
    order = await _read_order(request, here)
    sent = Sent(order, request.scope.get("client_name", ""), key, trace.current())
    [accepted] = await here.admission.carry(Kind.ORDERS, partial(here.orders.submit, [sent]))
    if isinstance(accepted, IdempotencyMismatch):
        raise accepted
    headers = {"Location": location(accepted)}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(accepted.answer, 202, media_type="application/json", headers=headers)


async def _read_order(request: Request, here: State) -> OrderRequest:
    """Names every bad field at once: what does not fit its type, and what the types cannot say of the rest."""
    refused: list[FieldError] = []
    try:
        order = await read_json(request, OrderRequest)
    except InvalidFields as error:
        refused += error.errors
        try:
            order = without(msgspec.json.decode(await read_body(request)), refused)
        except (msgspec.ValidationError, AttributeError):  # more than is named, or no object at all
            raise error from None
    refused += problems(order, here.settings)
    if refused:
        raise InvalidFields(refused[:MAX_ERRORS])
    return order


def location(accepted: Accepted) -> str:
    """Where the order can be looked at."""
    return f"{PATH}/{accepted.order_id}"


def idempotency_key(header: str) -> str:
    """The key in the header. Raises Malformed."""
    header = header.strip()
    if not header:
        raise Malformed("the Idempotency-Key header is missing: send one unique to this order, and the same again on a retry")
    found = KEY.fullmatch(header)
    if found is None or len(header) > MAX_KEY:
        raise Malformed(f"Idempotency-Key: a token or a quoted string of at most {MAX_KEY} characters is needed")
    return found["quoted"] or found["bare"]


async def get_order(request: Request) -> Response:
    """One order with its attempts."""
    order, version = await order_store.get(state(request).redis, request.path_params["id"])
    return answer(order, headers={"ETag": f'"{_edition(order, version)}"'})


async def list_orders(request: Request) -> Response:
    """Orders, newest first; with a status those that changed last first."""
    where = paging(request, "status")
    text = request.query_params.get("status")
    if text is not None and text not in set(Status):
        raise InvalidField("status", f"must be one of {', '.join(Status)}")
    return answer(await order_store.page(state(request).redis, status=Status(text) if text else None, **where))


async def cancel_order(request: Request) -> Response:
    """Cancel an order before its delivery has begun."""
    order_id = request.path_params["id"]
    cancelled = await order_store.cancel(state(request).redis, order_id, time.time())
    await audit(request, "cancel order", order_id)
    return answer(cancelled)


def _edition(order: OrderView, version: int) -> str:
    """Names what an order is now. A version alone comes a second time, of other contents, when Redis lost its last writes."""
    return f"{version}-{order.updated_at:.6f}"


async def order_events(request: Request) -> Response:
    """The order at every change (server-sent event `order`), until it has ended; then 204 to who has seen its last."""
    here, order_id, last_seen = state(request), request.path_params["id"], request.headers.get("last-event-id", "")
    order, version = await order_store.get(here.redis, order_id)  # an unknown order is a 404, not an empty stream
    if order.status in ENDED and last_seen == _edition(order, version):
        return no_more_events()
    return event_stream(_follow(here, order_id, last_seen))


async def _follow(here: State, order_id: str, last_seen: str) -> AsyncGenerator[ServerSentEvent, None]:
    with here.live.watch(order_id) as changed:
        while not here.live.closing.is_set():
            changed.clear()
            order, version = await order_store.get(here.redis, order_id)
            if (edition := _edition(order, version)) != last_seen:
                last_seen = edition
                yield ServerSentEvent(msgspec.json.encode(order).decode(), event="order", id=last_seen)
            if order.status in ENDED:
                return
            await changed.wait()


async def put_stock(request: Request) -> Response:
    """Set what is on hand; from then on the SKU is tracked."""
    sku = _sku(request)
    body = await read_json(request, StockRequest)
    found = await stock.put(state(request).redis, sku, body.on_hand)
    await audit(request, f"set stock to {body.on_hand}", sku)
    return answer(found)


async def get_stock(request: Request) -> Response:
    """Stock of a tracked SKU: on hand, reserved and available."""
    return answer(await stock.get(state(request).redis, _sku(request)))


def _sku(request: Request) -> str:
    sku: str = request.path_params["sku"]
    if not sku.strip() or len(sku) > MAX_NAME or not PRINTABLE.fullmatch(sku):
        raise InvalidField("sku", f"1 to {MAX_NAME} printable characters are needed")
    return sku


ONCE_SCHEMA = {"type": "string", "maxLength": MAX_KEY, "pattern": f"^({re.sub('[?]P<[a-z]+>', '', KEY.pattern)})$"}
ONCE = Parameter("Idempotency-Key", "unique to the order; quoted or bare", "header", required=True, schema=ONCE_SCHEMA)
SKU = Parameter("sku", where="path", required=True, schema={"type": "string", **SKU_SCHEMA})
STATUS = Parameter("status", "only these", schema={"type": "string", "enum": list(Status)})
SLIP = "The packing slip; a printable page for browsers."
SLIPS = ("application/json", "text/html")
ORDERS = (Scope.ORDERS,)
SEE_ORDERS = (Scope.ORDERS, Scope.OPS_READ)
CANCEL_ORDERS = (Scope.ORDERS, Scope.OPS_WRITE)
OPERATIONS = (
    Operation(
        "POST",
        PATH,
        post_order,
        request=OrderRequest,
        response=OrderView,
        status=202,
        parameters=(ONCE,),
        scopes=ORDERS,
        headers=("Location", "Idempotency-Replayed"),
        links=(get_order, order_events, cancel_order),
        examples={"application/json": examples.ORDER},
    ),
    Operation("GET", PATH, list_orders, response=OrderPage, parameters=(STATUS, *PAGE), scopes=SEE_ORDERS),
    Operation("GET", "/v1/orders/{id}", get_order, response=OrderView, scopes=SEE_ORDERS),
    Operation(
        "GET",
        "/v1/orders/{id}/events",
        order_events,
        also=(204,),
        parameters=(LAST_SEEN,),
        response_media_types=("text/event-stream",),
        scopes=SEE_ORDERS,
    ),
    Operation("GET", "/v1/orders/{id}/slip", slip_page.slip, SLIP, response=Slip, response_media_types=SLIPS, scopes=SEE_ORDERS),
    Operation("POST", "/v1/orders/{id}/cancel", cancel_order, response=OrderView, also=(409,), scopes=CANCEL_ORDERS),
    Operation("PUT", "/v1/stock/{sku}", put_stock, request=StockRequest, response=Stock, also=(409,), parameters=(SKU,)),
    Operation("GET", "/v1/stock/{sku}", get_stock, response=Stock, parameters=(SKU,), scopes=SEE_ORDERS),
)
