"""GET /v1/orders/{id}/slip: the packing slip, as JSON for programs and as a page to print for people."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from jobs.errors import NotFound
from jobs.mall import order_store
from web.html import html, message
from web.http import answer
from web.state import state

VARY = {"Vary": "Accept"}


async def slip(request: Request) -> Response:
    """The slip. Raises NotFound when there is no such order or it has not been packed yet."""
    as_page = prefers_html(request.headers.get("accept", ""))
    try:
        packed = await order_store.slip(state(request).redis, request.path_params["id"])
    except NotFound as error:
        if not as_page:
            raise
        shown = message(404, "No packing slip", f"There is {error}.")
    else:
        if not as_page:
            return answer(packed, headers=VARY)
        shown = html("slip.html", slip=packed)
    shown.headers.update(VARY)
    return shown


def prefers_html(accept: str) -> bool:
    """Whether an Accept header asks for a page rather than for JSON; one that does not care gets JSON."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media_type, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            weights[media_type] = float(quality)
        except ValueError:
            weights[media_type] = 0.0

    def weight(*ranges: str) -> float:
        return next((weights[name] for name in ranges if name in weights), 0.0)

    return weight("text/html", "text/*", "*/*") > weight("application/json", "application/*", "*/*")
