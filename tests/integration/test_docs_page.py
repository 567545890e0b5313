"""The API's documentation page: Swagger UI from our own files, under a policy without inline script."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import chromium
import httpx
import pytest
import redis
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from web_site import serving

from jobs.settings import Settings
from web.app import OPERATIONS
from web.docs import FILES, docs_routes

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Turnstile", "version": "1"},
    "paths": {"/v1/entries": {"post": {"summary": "Counts entries", "responses": {"202": {"description": "Accepted"}}}}},
}


async def openapi(request: Request) -> JSONResponse:
    return JSONResponse(DOCUMENT)


async def entries(request: Request) -> JSONResponse:
    return JSONResponse({"accepted": 1}, 202)


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """A real server with the page at / and, as behind a proxy, under /shop."""
    routes = [*docs_routes(), Route("/openapi.json", openapi), Route("/v1/entries", entries, methods=["POST"])]
    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Mount("/shop", routes=routes), *routes])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)
    listener.close()


def test_the_page_and_its_files_come_from_this_server_with_a_policy_that_allows_no_inline_script(origin: str) -> None:
    for path in ("/docs", *(f"/docs/{name}" for name in FILES)):
        answer = httpx.get(origin + path, trust_env=False).raise_for_status()
        directives = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
        assert directives["script-src"] == "'self'"
        assert directives["default-src"] == directives["frame-ancestors"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["index.html", "VERSION", "oauth2-redirect.html", "..%2f__init__.py", "..%2f..%2fREADME.md"])
def test_no_other_file_of_the_package_is_served(origin: str, name: str) -> None:
    assert httpx.get(f"{origin}/docs/{name}", trust_env=False).status_code == 404


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Browser]:
    with chromium.running_browser() as running:
        yield running


@pytest.mark.browser
@pytest.mark.parametrize("prefix", ["", "/shop"])
def test_an_openapi_3_1_document_is_shown_and_nothing_is_asked_of_another_host(
    origin: str, browser: chromium.Browser, prefix: str
) -> None:
    browser.open(f"{origin}{prefix}/docs")
    browser.wait_for("document.querySelector('#swagger-ui .opblock-summary-path')")
    text = browser.evaluate("document.body.innerText")
    assert "Turnstile" in text and "OAS 3.1" in text and "Counts entries" in text
    assert browser.console_errors == []
    foreign = [url for url in browser.requested if not url.startswith((f"{origin}{prefix}/", "data:"))]
    assert foreign == []


@pytest.mark.browser
def test_the_whole_document_is_shown_with_the_scope_that_each_call_needs(
    redis_client: redis.Redis, settings: Settings, browser: chromium.Browser
) -> None:
    with serving(settings) as site:
        here = str(site.base_url).rstrip("/")
        browser.open(f"{here}/docs")
        order = "document.querySelector('#operations-default-post_order %s')"
        browser.wait_for(order % ".opblock-summary-control")
        browser.evaluate(order % ".opblock-summary-control" + ".click()")
        browser.wait_for(order % ".opblock-description")
        text = browser.evaluate("document.body.innerText")
        assert "Scope: orders." in text and "HAND WARMER UNION JACK" in text
        webhooks = 1
        assert len(OPERATIONS) + webhooks == browser.evaluate("document.querySelectorAll('.opblock').length")
        assert browser.console_errors == []
        assert [url for url in browser.requested if not url.startswith((f"{here}/", "data:"))] == []


@pytest.mark.browser
def test_a_call_can_be_tried_out_from_the_page(origin: str, browser: chromium.Browser) -> None:
    browser.open(f"{origin}/docs")
    for button in (".opblock-summary-control", ".try-out__btn", ".execute"):
        browser.wait_for(f"document.querySelector('{button}')")
        browser.evaluate(f"document.querySelector('{button}').click()")
    browser.wait_for("document.querySelector('.live-responses-table tbody .response-col_status')")
    assert browser.evaluate("document.querySelector('.live-responses-table tbody .response-col_status').innerText").startswith(
        "202"
    )
    assert browser.console_errors == []
