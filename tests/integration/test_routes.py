"""What holds for every call: methods, media types, conditional GET, what may be kept."""

import gzip
from collections.abc import Iterator

import httpx
import pytest
import redis
from web_site import serving

from jobs.mall import footfall
from jobs.settings import Settings
from web.openapi import document
from web.operation import Operation
from web.routes import matches

ORDER = {"lines": [{"sku": "A", "quantity": 1}]}


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def ordered(site: httpx.Client) -> str:
    """An order that waits."""
    location: str = site.post("/v1/orders", json=ORDER | {"countdown_s": 600}, headers={"Idempotency-Key": "k"}).headers[
        "location"
    ]
    return location


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/orders", "GET, HEAD, OPTIONS, POST"),
        ("/v1/stock/A", "GET, HEAD, OPTIONS, PUT"),
        ("/v1/entries", "OPTIONS, POST"),
        ("/v1/jobs/1", "DELETE, GET, HEAD, OPTIONS"),
    ],
)
def test_a_path_names_all_of_its_methods(site: httpx.Client, path: str, allowed: str) -> None:
    options, refused = site.options(path), site.request("PATCH", path)
    assert (options.status_code, options.content, options.headers["allow"]) == (204, b"", allowed)
    assert refused.status_code == 405 and sorted(refused.headers["allow"].split(", ")) == allowed.split(", ")
    assert refused.json()["type"] == "urn:turnstile:problem:method-not-allowed"


def test_an_unknown_path_is_a_problem_and_a_slash_too_many_leads_back(site: httpx.Client) -> None:
    unknown = site.get("/v1/nothing")
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")
    assert unknown.headers["cache-control"] == "no-store"
    led = site.post("/v1/orders/", json=ORDER)
    assert (led.status_code, httpx.URL(led.headers["location"]).path) == (307, "/v1/orders")


@pytest.mark.parametrize("given", ["text/plain", "multipart/form-data", "application/xml; charset=utf-8"])
def test_a_body_of_another_media_type_is_not_read_as_json(site: httpx.Client, given: str) -> None:
    answer = site.put("/v1/stock/A", content=b'{"on_hand": 1}', headers={"Content-Type": given})
    assert answer.status_code == 415 and answer.headers["accept"] == "application/json"
    assert site.put("/v1/stock/A", content=b'{"on_hand": 1}').status_code == 200
    for kind in ("application/json", "Application/JSON; charset=utf-8", "application/x-www-form-urlencoded"):
        assert site.put("/v1/stock/A", content=b'{"on_hand": 1}', headers={"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_a_packed_body_is_refused_as_a_whole_and_one_that_says_it_is_not_packed_is_read(
    site: httpx.Client, media_type: str
) -> None:
    body = b'{"gate": "north", "event_id": "packed"}'
    headers = {"Content-Type": media_type, "Content-Encoding": "gzip"}
    for sent in (gzip.compress(body), body):
        refused = site.post("/v1/entries", content=sent, headers=headers)
        assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "identity")
    taken = site.post("/v1/entries", content=body, headers=headers | {"Content-Encoding": "identity"})
    assert (taken.status_code, taken.json()["accepted"]) == (202, 1)


@pytest.mark.parametrize("instant", ["0001-01-01", "0001-01-01T00:00:00%2B23:59", "9999-12-31", "9999-12-31T23:59:59-23:59"])
def test_the_ends_of_the_calendar_are_instants_like_others(site: httpx.Client, instant: str) -> None:
    for query in (f"from={instant}", f"to={instant}", f"from={instant}&to={instant}"):
        for bucket in ("minute", "hour", "day"):
            assert site.get(f"/v1/footfall?{query}&bucket={bucket}").status_code in (200, 422)


def test_an_unexpected_error_says_that_its_connection_ends(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(footfall, "summary", fail)
    with serving(settings) as http:
        failed = http.get("/v1/footfall/summary")
        assert (failed.status_code, failed.headers["connection"]) == (500, "close")


def test_every_get_can_be_asked_whether_it_still_holds(site: httpx.Client) -> None:
    site.put("/v1/stock/A", json={"on_hand": 1})
    order = ordered(site)
    kept = (
        "/v1/orders",
        order,
        "/v1/footfall?from=2026-01-01&to=2026-01-02",
        "/v1/stock/A",
        "/v1/audit",
        "/openapi.json",
        "/docs/docs.js",
    )
    for path in kept:
        first = site.get(path)
        tag = first.headers["etag"]
        assert tag.startswith('"') and "no-cache" in first.headers["cache-control"], path
        for sent in (tag, f'"other", W/{tag}', "*"):
            again = site.get(path, headers={"If-None-Match": sent})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), path
            assert again.headers["cache-control"] == first.headers["cache-control"]
        assert site.get(path, headers={"If-None-Match": '"other"'}).content == first.content
        head = site.head(path)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag), path
    before = site.get(order).headers["etag"]
    site.post(f"{order}/cancel")
    assert site.get(order, headers={"If-None-Match": before}).status_code == 200


def test_what_changes_something_is_kept_by_nobody(site: httpx.Client) -> None:
    assert site.put("/v1/stock/A", json={"on_hand": 1}).headers["cache-control"] == "no-store"
    assert site.post("/v1/orders", json={}).headers["cache-control"] == "no-store"
    assert site.get("/v1/orders/none").headers["cache-control"] == "no-store"


def test_the_head_of_a_stream_of_events_ends(site: httpx.Client) -> None:
    head = site.head(f"{ordered(site)}/events")
    assert (head.status_code, head.content) == (200, b"") and head.headers["content-type"].startswith("text/event-stream")
    assert head.headers["cache-control"] == "no-store"


def test_who_has_seen_the_last_event_of_an_order_is_told_not_to_connect_again(site: httpx.Client) -> None:
    order = ordered(site)
    site.post(f"{order}/cancel")
    first = site.get(f"{order}/events")
    [seen] = [line.removeprefix("id: ") for line in first.text.splitlines() if line.startswith("id: ")]
    again = site.get(f"{order}/events", headers={"Last-Event-ID": seen})
    assert (again.status_code, again.content, again.headers["cache-control"]) == (204, b"", "no-store")
    earlier = site.get(f"{order}/events", headers={"Last-Event-ID": "1-0.000000"})
    assert (earlier.status_code, earlier.text.count("event: order")) == (200, 1)


@pytest.mark.parametrize(
    ("sent", "holds"),
    [("", False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"*"', False), ('"b"', False), ("a", False)],
)
def test_tags_are_compared_weakly(sent: str, holds: bool) -> None:
    assert matches('"a"', sent) is holds is matches('W/"a"', sent)


def test_the_document_says_what_every_call_may_answer() -> None:
    async def handler(request: object) -> None:
        """Look."""

    one = Operation("GET", "/v1/things/{id}", handler)  # type: ignore[arg-type]  # never called
    found = document([one])["paths"]["/v1/things/{id}"]["get"]
    assert list(found["responses"]) == ["200", "304", "401", "403", "404", "429", "500", "503"]
    assert found["responses"]["404"] == {"$ref": "#/components/responses/not-found"}
    assert found["parameters"][-1] == {"$ref": "#/components/parameters/If-None-Match"}
    types = document([one])["components"]["responses"]["not-found"]["content"]["application/problem+json"]["schema"]["allOf"][1]
    assert types["properties"]["type"]["enum"] == ["urn:turnstile:problem:not-found", "urn:turnstile:problem:unknown-task"]
