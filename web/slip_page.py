"""GET /v1/orders/{id}/slip: the packing slip, as JSON for programs and as a page to print for people."""

from starlette.requests import Request
from starlette.responses import Response

from jobs.errors import NotFound
from jobs.mall import order_store
from web.html import html, message
from web.http import answer
from web.state import state


async def slip(request: Request) -> Response:
    """The slip. Raises NotFound when there is no such order or it has not been packed yet."""
    accept = request.headers.get("accept", "").lower()
    # Browsers ask for text/html and never for JSON; a program that takes both gets JSON.
    as_page = "text/html" in accept and "application/json" not in accept
    try:
        packed = await order_store.slip(state(request).redis, request.path_params["id"])
    except NotFound as error:
        if as_page:
            return message(404, "No packing slip", f"There is {error}.")
        raise
    shown = html("slip.html", slip=packed) if as_page else answer(packed)
    shown.headers["Vary"] = "Accept"
    return shown
