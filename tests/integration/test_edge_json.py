"""Hostile JSON on every operation that takes some: refused with the reason, nothing of it in Redis."""

import json
import re
from collections.abc import Iterator

import httpx
import pytest
import redis
import sample_tasks
from snapshots import changes, snapshot
from web_site import serving

from jobs.queue import catalogue
from jobs.settings import Settings
from web.app import OPERATIONS
from web.nesting import MAX_DEPTH
from web.operation import Operation

TAKING = [operation for operation in OPERATIONS if operation.request is not None]
DEEP = 100_000
NEVER_JSON = {"latin": b"\xff\xfe{}", "deep arguments": b'{"task":"sample.fail","args":' + b"[" * DEEP + b"]" * DEEP + b"}"}
HOSTILE = {
    **NEVER_JSON,
    "deep list": b"[" * DEEP,
    "deep object": b'{"a":' * DEEP,
    "deep unknown field": b'{"unknown":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "bad UTF-8": b'{"gate":"\xff\xfe","lines":"\xff","task":"\xff"}',
    "overlong UTF-8": b'{"gate":"\xc0\xaf"}',
    "half a surrogate": rb'{"gate":"\ud800"}',
    "a huge number": b'{"on_hand":1' + b"0" * 10_000 + b"}",
    "NaN": b'{"on_hand":NaN}',
    "cut off": b'{"gate":"nor',
    "two values": b"{}{}",
    "NUL": b"\x00",
}


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def send(site: httpx.Client, operation: Operation, body: bytes) -> httpx.Response:
    path = re.sub(r"\{\w+\}", "x", operation.path)
    headers = {"Content-Type": "application/json", "Idempotency-Key": "one"}
    return site.request(operation.method, path, content=body, headers=headers)


@pytest.mark.parametrize("operation", TAKING, ids=[f"{each.method} {each.path}" for each in TAKING])
def test_hostile_json_is_refused_everywhere_and_leaves_nothing_behind(
    site: httpx.Client, redis_client: redis.Redis, operation: Operation
) -> None:
    before = snapshot(redis_client)
    for name, body in HOSTILE.items():
        answer = send(site, operation, body)
        assert answer.status_code in ((400,) if name == "latin" else (400, 422)), f"{name}: {answer.status_code} {answer.text}"
        assert answer.headers["content-type"] == "application/problem+json", name
        assert answer.json()["status"] == answer.status_code
    assert changes(before, snapshot(redis_client)) == {}


def test_half_a_surrogate_in_any_text_is_refused_and_leaves_nothing_behind(site: httpx.Client, redis_client: redis.Redis) -> None:
    whole = '"lines":[{"sku":"a","quantity":1}]'
    lines = '"lines":[{"sku":"a%s","quantity":1,"description":"b%s"}]'
    texts = [f'"{field}":"a%s"' for field in ("reference", "customer", "country", "email", "notify_url")]
    bodies = {
        "/v1/orders": [f"{{{text},{whole}}}" for text in texts] + [f"{{{lines}}}"],
        "/v1/entries": ['{"gate":"a%s","event_id":"1"}', '{"gate":"a","event_id":"%s"}', '{"gate":"a","sensor":"%s","seq":1}'],
        "/v1/jobs": ['{"task":"a%s"}', '{"task":"sample.fail","args":["%s"]}', '{"task":"sample.fail","kwargs":{"%s":1}}'],
    }
    catalogue.publish(redis_client)
    before = snapshot(redis_client)
    for path, texts in bodies.items():
        for text in texts:
            for half in (r"\ud800", r"\udc00", r"\ud800\ud800"):
                answer = site.post(path, content=text.replace("%s", half).encode(), headers={"Idempotency-Key": "one"})
                assert (answer.status_code, answer.json()["type"]) == (400, "urn:turnstile:problem:malformed"), text
    assert changes(before, snapshot(redis_client)) == {}


@pytest.mark.parametrize("levels", [MAX_DEPTH - 2, MAX_DEPTH - 1])
def test_arguments_may_be_nested_as_deep_as_the_limit(site: httpx.Client, redis_client: redis.Redis, levels: int) -> None:
    catalogue.publish(redis_client)
    value = "x"
    for _ in range(levels):
        value = [value]  # type: ignore[assignment]  # deeper by one
    body = json.dumps({"task": sample_tasks.fail.name, "args": [value]})  # itself two levels
    answer = site.post("/v1/jobs", content=body)
    assert answer.status_code == (202 if levels + 2 <= MAX_DEPTH else 400)
