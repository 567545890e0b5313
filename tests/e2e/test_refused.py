"""Every documented error is asked for once: the status, the stable type, the field and the reason."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from processes import wait_for
from system import System

PROBLEM = "application/problem+json"
LINE = {"sku": "85123A", "quantity": 1}
KEY = {"Idempotency-Key": "refused"}
JSON = {"Content-Type": "application/json"}
MIB = 1_048_576


def refused(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """Checks the shape that every error has, and returns it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"]) == (f"urn:turnstile:problem:{name}", status)
    assert body["title"] and body["detail"]
    assert answer.headers["traceparent"]
    return body


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"event_id": "1"}, "gate"),
        ({"gate": "", "event_id": "1"}, "gate"),
        ({"gate": "a|b", "event_id": "1"}, "gate"),
        ({"gate": "north"}, "event_id"),
        ({"gate": "north", "sensor": "s1"}, "seq"),
        ({"gate": "north", "seq": 1}, "sensor"),
        ({"gate": "north", "sensor": "s1", "seq": -1}, "seq"),
        ({"gate": "north", "event_id": "1", "sensor": "s1", "seq": 1}, "event_id"),
        ({"gate": "north", "event_id": "1", "count": 0}, "count"),
        ({"gate": "north", "event_id": "1", "count": 1001}, "count"),
        ({"gate": "north", "event_id": "1", "direction": "up"}, "direction"),
        ({"gate": "north", "event_id": "1", "at": "yesterday"}, "at"),
        ({"gate": "north", "event_id": "1", "at": "2026-11-21T10:00:00"}, "at"),
        ({"gate": "north", "event_id": "1", "at": "2005-11-01T10:00:00Z"}, "at"),
        ({"gate": "north", "event_id": "1", "at": "2105-11-01T10:00:00Z"}, "at"),
        ({"gate": "north", "event_id": "1", "colour": "red"}, "colour"),
    ],
)
def test_an_entry_is_refused_with_field_and_reason(system: System, entry: dict[str, Any], field: str) -> None:
    body = refused(system.http.post("/v1/entries", json=entry), 422, "invalid")
    assert [error["field"] for error in body["errors"]] == [field]
    assert body["errors"][0]["reason"]


@pytest.mark.parametrize(
    ("order", "fields"),
    [
        ({}, ["lines"]),
        ({"lines": []}, ["lines"]),
        ({"lines": [LINE] * 1001}, ["lines"]),
        ({"lines": [{"sku": "85123A"}]}, ["lines[0].quantity"]),
        ({"lines": [LINE, {"sku": " ", "quantity": 0, "unit_price": -1}]}, ["sku", "quantity", "unit_price"]),
        ({"lines": [{"sku": "85123A", "quantity": 1.5}]}, ["lines[0].quantity"]),
        ({"lines": [{"sku": "85123A", "quantity": 100_001}]}, ["lines[0].quantity"]),
        ({"lines": [LINE], "email": "nobody"}, ["email"]),
        ({"lines": [LINE], "notify_url": "ftp://example.com"}, ["notify_url"]),
        ({"lines": [LINE], "countdown_s": -1}, ["countdown_s"]),
        ({"lines": [LINE], "reference": "x" * 129}, ["reference"]),
        ({"lines": [LINE], "customer": "a\u0007b"}, ["customer"]),
        ({"lines": [LINE], "ordered_on": "2010-12-01"}, ["ordered_on"]),
    ],
)
def test_an_order_is_refused_with_every_field_and_reason(system: System, order: dict[str, Any], fields: list[str]) -> None:
    body = refused(system.http.post("/v1/orders", json=order, headers=KEY), 422, "invalid")
    assert len(body["errors"]) == len(fields)
    for error, field in zip(body["errors"], fields, strict=True):
        assert error["field"].endswith(field) and error["reason"]


@pytest.mark.parametrize("content", [b"", b"  ", b"{", b"nonsense"])
@pytest.mark.parametrize("path", ["/v1/entries", "/v1/orders", "/v1/jobs"])
def test_what_cannot_be_read_is_malformed(system: System, path: str, content: bytes) -> None:
    refused(system.http.post(path, content=content, headers={**JSON, **KEY}), 400, "malformed")


def test_text_that_is_no_utf_8_and_endless_nesting_are_malformed(system: System) -> None:
    refused(system.http.post("/v1/entries", content=b'{"gate": "\xff", "event_id": "1"}', headers=JSON), 400, "malformed")
    nested = b'{"task": "reports.daily", "args": ' + b"[" * 100_000
    refused(system.http.post("/v1/jobs", content=nested, headers=JSON), 400, "malformed")


def test_an_order_needs_a_usable_key(system: System) -> None:
    refused(system.http.post("/v1/orders", json={"lines": [LINE]}), 400, "malformed")
    for key in ('"', "two words", "x" * 256):
        refused(system.http.post("/v1/orders", json={"lines": [LINE]}, headers={"Idempotency-Key": key}), 400, "malformed")


def test_a_key_stands_for_one_body(system: System) -> None:
    first = system.http.post("/v1/orders", json={"lines": [LINE]}, headers={"Idempotency-Key": '"one-body"'})
    again = system.http.post("/v1/orders", json={"lines": [LINE]}, headers={"Idempotency-Key": "one-body"})
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert first.headers["location"] == again.headers["location"] == f"/v1/orders/{first.json()['id']}"
    other = system.http.post("/v1/orders", json={"lines": [LINE, LINE]}, headers={"Idempotency-Key": "one-body"})
    assert first.json()["id"] in refused(other, 422, "idempotency-mismatch")["detail"]


def test_bodies_and_lists_have_a_limit(system: System) -> None:
    refused(system.http.post("/v1/entries", content=b" " * (MIB + 1), headers=JSON), 413, "too-large")

    def stream() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * (MIB // 10)

    refused(system.http.post("/v1/orders", content=stream(), headers={**JSON, **KEY}), 413, "too-large")
    lines = "\n".join(["{}"] * 10_001)
    refused(system.http.post("/v1/entries", content=lines, headers={"Content-Type": "application/x-ndjson"}), 413, "too-large")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/nothing"),
        ("GET", "/v1/orders/ord_0"),
        ("GET", "/v1/orders/ord_0/events"),
        ("GET", "/v1/orders/ord_0/slip"),
        ("POST", "/v1/orders/ord_0/cancel"),
        ("GET", "/v1/stock/never-put"),
        ("GET", "/v1/jobs/none"),
        ("DELETE", "/v1/jobs/none"),
        ("POST", "/v1/queues/none/pause"),
        ("POST", "/v1/queues/entries/explode"),
        ("POST", "/v1/workers/none/stop"),
        ("POST", "/v1/workers/none/restart"),
        ("DELETE", "/v1/workers/none/scale"),
        ("POST", "/v1/schedules/none/run"),
        ("GET", "/v1/dead-letters/none"),
        ("POST", "/v1/dead-letters/none/redrive"),
        ("POST", "/v1/dead-letters/none/discard"),
        ("GET", "/hirefire/guess/info"),
    ],
)
def test_what_is_not_there_is_not_found(system: System, method: str, path: str) -> None:
    refused(system.http.request(method, path), 404, "not-found")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/orders?status=lost", "status"),
        ("/v1/orders?limit=0", "limit"),
        ("/v1/orders?limit=many", "limit"),
        ("/v1/orders?cursor=here", "cursor"),
        ("/v1/orders?colour=red", "colour"),
        ("/v1/dead-letters?cursor=here", "cursor"),
        ("/v1/scheduled?limit=9999", "limit"),
        ("/v1/footfall?bucket=year", "bucket"),
        ("/v1/footfall?from=yesterday", "from"),
        ("/v1/footfall?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("/v1/footfall?from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z&bucket=minute", "from"),
    ],
)
def test_a_query_that_cannot_be_answered_names_the_parameter(system: System, path: str, field: str) -> None:
    body = refused(system.http.get(path), 422, "invalid")
    assert body["errors"][0]["field"] == field


def test_jobs_by_name(system: System) -> None:
    refused(system.http.post("/v1/jobs", json={"task": "os.system", "args": ["true"]}), 404, "unknown-task")
    arguments = refused(system.http.post("/v1/jobs", json={"task": "reports.daily", "args": [1, 2]}), 422, "invalid")
    assert arguments["errors"][0]["field"] == "args"
    both = {"task": "reports.daily", "countdown_s": 1, "at": "2100-01-01T00:00:00Z"}
    refused(system.http.post("/v1/jobs", json=both), 422, "invalid")
    refused(system.http.post("/v1/jobs", json={"task": "reports.daily", "queue": "no queue"}), 422, "invalid")
    created = system.http.post("/v1/jobs", json={"task": "footfall.roll_up"})
    assert created.status_code == 202
    job = wait_for(
        lambda: (found := system.http.get(created.headers["location"]).json())["status"] == "finished" and found,
        20,
        "the job is done",
    )
    assert isinstance(job, dict) and isinstance(job["result"], int)
    refused(system.http.delete(f"/v1/jobs/{job['id']}"), 409, "conflict")
    later = system.http.post("/v1/jobs", json={"task": "footfall.roll_up", "countdown_s": 3600}).json()["id"]
    assert system.http.delete(f"/v1/jobs/{later}").json()["status"] == "canceled"


def test_conflicts_say_what_forbids_it(system: System) -> None:
    assert system.ask("PUT", "/v1/stock/84879", json={"on_hand": 3}).status_code == 200
    done = system.order("conflict-done", sku="84879", quantity=3)
    system.until(done, "delivered")
    assert "delivered" in refused(system.http.post(f"/v1/orders/{done}/cancel"), 409, "conflict")["detail"]
    short = system.until(system.order("conflict-short", sku="84879", quantity=1), "rejected")
    assert short["reason"] == "out of stock: 84879"
    assert system.ask("PUT", "/v1/stock/84879", json={"on_hand": 2}).status_code == 200
    assert system.ask("POST", "/v1/queues/packing/pause").status_code == 200
    held = system.order("conflict-held", sku="84879", quantity=2)
    system.until(held, "packing")
    refused(system.http.put("/v1/stock/84879", json={"on_hand": 1}), 409, "conflict")
    assert system.ask("POST", f"/v1/orders/{held}/cancel").json()["status"] == "cancelled"
    assert system.ask("GET", "/v1/stock/84879").json()["available"] == 2
    assert system.ask("POST", "/v1/queues/packing/resume").status_code == 200


def test_methods_origins_and_ranges_that_cannot_be(system: System) -> None:
    refused(system.http.put("/v1/orders"), 405, "method-not-allowed")
    refused(system.http.post("/v1/workers/picking/scale", json={"min": 2, "max": 1}), 422, "invalid")
    for headers in ({"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
        refused(system.http.post("/v1/queues/entries/pause", headers=headers), 403, "forbidden")
    refused(system.http.get("/v1/queues", headers={"Host": "rebound.example"}), 403, "forbidden")


def test_reading_changes_nothing(system: System) -> None:
    before = system.redis.dbsize()
    for path in ("/v1/queues/entries/pause", "/v1/dead-letters/redrive", "/actions/pause"):
        assert system.http.get(path).status_code in (404, 405)
    assert system.redis.dbsize() == before


def test_redis_away_is_503_soon_and_over_when_it_is_back(system: System) -> None:
    system.server.kill()
    started = time.monotonic()
    answer = system.http.post("/v1/entries", json={"gate": "north", "event_id": "away"})
    assert time.monotonic() - started < 5
    refused(answer, 503, "redis-away")
    assert int(answer.headers["retry-after"]) > 0
    refused(system.http.post("/v1/orders", json={"lines": [LINE]}, headers=KEY), 503, "redis-away")
    refused(system.http.get("/readyz"), 503, "redis-away")
    assert system.http.get("/livez").status_code == 200
    system.server.start()
    assert system.ask("POST", "/v1/entries", json={"gate": "north", "event_id": "away"}).json()["accepted"] == 1
