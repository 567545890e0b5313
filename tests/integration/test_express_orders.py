"""Orders on the express lane: what the application answers, for the same requests, without the application."""

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import httpx
import pytest
import redis
from processes import wait_for
from snapshots import changes, snapshot
from web_site import TWICE, Counted, counted, seen

from jobs import keys
from jobs.setting_values import ApiKey, RateLimit, WebhookSecret, hash_api_key
from jobs.settings import Settings
from web.pulse import PATIENCE_S

KEY = "a-key-that-is-long-enough"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TYPE = "urn:turnstile:problem:"
Header = tuple[str, str]
_numbers = itertools.count(1)


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[tuple[httpx.Client, Counted]]:
    with counted(replace(settings, webhook_secrets=(WebhookSecret("", b"s" * 24),))) as found:
        yield found


def body(**fields: object) -> bytes:
    return json.dumps({"lines": [{"sku": "A", "quantity": 2, "unit_price": "2.55"}], **fields}).encode()


def fresh() -> str:
    return f"key {next(_numbers)}"


def post(http: httpx.Client, content: bytes, key: str, *headers: Header) -> httpx.Response:
    return http.post("/v1/orders", content=content, headers=[("Idempotency-Key", f'"{key}"'), *headers])


def order_of(client: redis.Redis, answer: httpx.Response) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in client.hgetall(keys.order(answer.json()["id"])).items()}


def alike(client: redis.Redis, answer: httpx.Response) -> object:
    """Answer and order without what differs from one order to another: id, instants, span."""
    order_id, created = answer.json()["id"], str(answer.json()["created_at"])
    status, headers, content = seen(answer)
    assert headers.pop("location") == f"/v1/orders/{order_id}" and headers.pop("content-length") == str(len(content))
    instants = {"updated_at", "created_at", "due_at"}
    shown = {name: value for name, value in json.loads(content).items() if name not in instants}
    kept = {name: value for name, value in order_of(client, answer).items() if name not in {*instants, "trace", "notify"}}
    assert created in content.decode() and order_of(client, answer)["trace"].split(" ")[0] == answer.headers["traceparent"]
    return json.loads(json.dumps([status, headers, shown, kept]).replace(order_id, "ord_"))


PLAIN: dict[str, tuple[bytes, list[Header]]] = {
    "no media type": (body(), []),
    "JSON": (body(), [("content-type", "application/json")]),
    "all fields": (
        body(reference="r", customer="c", country="Norway", email="a@b.example", notify_url="https://shop.example/hook"),
        [("traceparent", TRACEPARENT), ("tracestate", "a=b")],
    ),
    "delayed": (body(countdown_s=60), []),
    "to be closed": (body(), [("connection", "close")]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_the_express_lane_answers_and_writes_is_what_the_application_does(
    site: tuple[httpx.Client, Counted], redis_client: redis.Redis, name: str
) -> None:
    http, app = site
    content, headers = PLAIN[name]
    ours, theirs = fresh(), fresh()
    first = post(http, content, ours, *headers)
    assert app.requests == 0, "the express lane has answered"
    assert first.status_code == 202
    assert alike(redis_client, first) == alike(redis_client, post(http, content, theirs, *headers, *TWICE))
    assert app.requests == 1
    before = snapshot(redis_client)
    again, others = post(http, content, ours, *headers), post(http, content, ours, *headers, *TWICE)
    assert seen(again) == seen(others) and again.headers["idempotency-replayed"] == "true"
    assert (again.content, app.requests, changes(before, snapshot(redis_client))) == (first.content, 2, {})


def test_the_trace_of_the_request_goes_on_in_the_order(site: tuple[httpx.Client, Counted], redis_client: redis.Redis) -> None:
    http, app = site
    answer = post(http, body(), fresh(), ("traceparent", TRACEPARENT), ("tracestate", "a=b"))
    assert answer.headers["traceparent"][:36] == TRACEPARENT[:36] != answer.headers["traceparent"][36:52]
    assert order_of(redis_client, answer)["trace"] == f"{answer.headers['traceparent']} a=b" and app.requests == 0


def test_the_same_key_with_another_body_is_told_as_the_application_tells_it(
    site: tuple[httpx.Client, Counted], redis_client: redis.Redis
) -> None:
    http, app = site
    key = fresh()
    assert post(http, body(), key).status_code == 202
    before = snapshot(redis_client)
    ours, theirs = post(http, body(reference="r"), key), post(http, body(reference="r"), key, *TWICE)
    assert seen(ours) == seen(theirs) and ours.json()["type"] == f"{TYPE}idempotency-mismatch"
    assert (ours.status_code, app.requests, changes(before, snapshot(redis_client))) == (422, 1, {})


ODD: dict[str, tuple[bytes, list[Header], int]] = {
    "empty": (b"", [], 400),
    "not JSON": (b"{", [], 400),
    "not UTF-8": (b'{"lines": [{"sku": "\xff", "quantity": 1}]}', [], 400),
    "deep": (b"[" * 10_000, [], 400),
    "bad fields": (body(email="nobody", reference="x" * 129), [], 422),
    "an unknown field": (body(colour="red"), [], 422),
    "another media type": (b"<a/>", [("content-type", "text/xml")], 415),
    "of another origin": (body(), [("origin", "https://evil.example")], 403),
    "of another host": (body(), [("host", "evil.example")], 403),
    "too large": (b" " * (1 << 20) + body(), [], 413),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_refused_is_refused_by_the_application_alone(
    site: tuple[httpx.Client, Counted], redis_client: redis.Redis, name: str
) -> None:
    http, app = site
    content, headers, status = ODD[name]
    answer = post(http, content, fresh(), *headers)
    assert (answer.status_code, app.requests, redis_client.exists(keys.ORDERS)) == (status, 1, 0)


@pytest.mark.parametrize("more", [{}, {"email": 1}], ids=["all fit their types", "not all fit"])
def test_no_more_than_a_hundred_bad_fields_are_named(site: tuple[httpx.Client, Counted], more: dict[str, object]) -> None:
    http, _ = site
    answer = post(http, body(lines=[{"sku": "", "quantity": 0}] * 100, **more), fresh())
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 100)


@pytest.mark.parametrize("key", [None, "", '"', "a b", '"é"', "k" * 300])
def test_a_key_that_is_none_is_refused_by_the_application(
    site: tuple[httpx.Client, Counted], redis_client: redis.Redis, key: str | None
) -> None:
    http, app = site
    headers = [] if key is None else [(b"idempotency-key", key.encode("latin-1"))]
    answer = http.post("/v1/orders", content=body(), headers=headers)
    assert (answer.status_code, app.requests, redis_client.exists(keys.ORDERS)) == (400, 1, 0)


def test_a_body_that_needs_a_second_look_is_taken_by_the_application(site: tuple[httpx.Client, Counted]) -> None:
    http, app = site
    assert post(http, b'{"lines": [{"sku": "A", "quantity": 5.0}]}', fresh()).status_code == 202
    assert app.requests == 1


def test_one_order_comes_of_many_equal_requests_at_once_whoever_answers_them(
    site: tuple[httpx.Client, Counted], redis_client: redis.Redis
) -> None:
    http, app = site
    key = fresh()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda more: post(http, body(), key, *more), ([], TWICE) * 20))
    assert {answer.status_code for answer in answers} == {202} and len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert (redis_client.zcard(keys.ORDERS), redis_client.llen(keys.PICK_BUFFER), app.requests) == (1, 1, 20)


def test_keys_and_limits_hold_on_the_express_lane_too(redis_client: redis.Redis, settings: Settings) -> None:
    named = replace(settings, api_keys=(ApiKey("shop", hash_api_key(KEY)),), rate_limits=(RateLimit("orders", 20, 3_600),))
    bearer = ("authorization", f"Bearer {KEY}")
    with counted(named) as (http, _app):
        assert [post(http, body(), "k", *headers).status_code for headers in ([], [("authorization", "Bearer no")])] == [401, 401]
        assert post(http, body(), "k", bearer).status_code == 202, "by the application, which borrows tokens"
        answers = [post(http, body(), fresh(), bearer, *more) for more in ([], TWICE) * 15]
    assert [answer.status_code for answer in answers] == [202] * 19 + [429] * 11
    for answer in answers:
        assert answer.headers["ratelimit-policy"] == '"orders";q=20;w=3600' and '"orders";r=' in answer.headers["ratelimit"]
    assert redis_client.zcard(keys.ORDERS) == 20


def test_every_answer_of_the_express_lane_says_where_the_client_stands(redis_client: redis.Redis, settings: Settings) -> None:
    named = replace(settings, api_keys=(ApiKey("shop", hash_api_key(KEY)),), rate_limits=(RateLimit("orders", 10_000, 1),))
    bearer = ("authorization", f"Bearer {KEY}")
    with counted(named) as (http, app):

        def on_the_lane(reference: str) -> list[httpx.Response]:
            before = app.requests
            answer = post(http, body(reference=reference), "k", bearer)
            return [answer] if app.requests == before else []  # tokens are lent for a moment only

        found = [*wait_for(partial(on_the_lane, "one"), 30, "taken"), *wait_for(partial(on_the_lane, "two"), 30, "refused")]
    assert [answer.status_code for answer in found] == [202, 422]
    assert all('"orders";r=' in answer.headers["ratelimit"] for answer in found)
    assert redis_client.zcard(keys.ORDERS) == 1


def test_a_write_that_redis_does_not_answer_is_503_and_the_same_key_then_makes_one_order(
    site: tuple[httpx.Client, Counted], redis_client: redis.Redis
) -> None:
    http, app = site
    redis_client.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
    try:
        started = time.monotonic()
        answer = post(http, body(), "k")
        assert time.monotonic() - started >= PATIENCE_S * 0.9
    finally:
        redis_client.execute_command("CLIENT", "UNPAUSE")
    assert (answer.status_code, answer.json()["type"], app.requests) == (503, f"{TYPE}redis-away", 0)
    wait_for(lambda: post(http, body(), "k").status_code == 202, 30, "it is taken again")
    assert redis_client.zcard(keys.ORDERS) == 1
