"""A Redis that hangs, is gone, full, read-only or short of replicas: 503 soon, then at once, and over when it is over."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
import redis
from processes import wait_for
from servers import Server
from web_site import serving

from jobs.settings import Settings
from web.pulse import PATIENCE_S

ENTRY = "/v1/entries", {"gate": "north"}
LINE = {"sku": "A", "quantity": 1}
SLACK_S = 5.0
"""For a loaded machine; without a bound of its own a request would wait longer than that."""


def enter(http: httpx.Client, event_id: str) -> httpx.Response:
    return http.post("/v1/entries", json={"gate": "north", "event_id": event_id})


def order(http: httpx.Client, key: str) -> httpx.Response:
    return http.post("/v1/orders", json={"lines": [LINE]}, headers={"Idempotency-Key": key})


def is_refused(answer: httpx.Response, name: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (503, f"urn:turnstile:problem:{name}"), answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["traceparent"]


@pytest.fixture
def http(settings: Settings, own_server: Server) -> Iterator[httpx.Client]:
    """The web on a Redis of its own."""
    with serving(replace(settings, redis_url=own_server.url)) as client:
        assert enter(client, "before").status_code == 202
        yield client


@pytest.fixture
def server_client(own_server: Server) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(own_server.url)
    yield client
    client.close()


def test_a_redis_that_hangs_is_refused_for_soon_and_then_at_once(
    http: httpx.Client, own_server: Server, server_client: redis.Redis
) -> None:
    pid = server_client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        is_refused(order(http, "hanging"), "redis-away")
        assert time.monotonic() - started < PATIENCE_S + SLACK_S
        wait_for(lambda: http.get("/v1/orders").status_code == 503, 20, "the whole API is refused for")
        started = time.monotonic()
        for number in range(20):
            is_refused(order(http, f"hanging-{number}"), "redis-away")
            is_refused(enter(http, f"hanging-{number}"), "redis-away")
        assert time.monotonic() - started < 20 * PATIENCE_S, "nobody waits for a Redis that is known to hang"
        assert http.get("/livez").status_code == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: order(http, "hanging").status_code == 202, 20, "orders are taken again")
    assert enter(http, "hanging").status_code in (202, 503)
    assert server_client.zcard("turnstile:orders") == 1, "the order that was sent again and again is one order"


def test_a_redis_that_was_killed_is_back_without_a_restart(http: httpx.Client, own_server: Server) -> None:
    own_server.kill()
    is_refused(order(http, "killed"), "redis-away")
    is_refused(enter(http, "killed"), "redis-away")
    own_server.start()
    wait_for(lambda: order(http, "killed").status_code == 202, 20, "orders are taken again")
    wait_for(lambda: enter(http, "killed").status_code == 202, 20, "entries are taken again")


def test_a_full_redis_refuses_new_work_until_it_has_room(http: httpx.Client, server_client: redis.Redis) -> None:
    server_client.config_set("maxmemory", 1)
    refused = order(http, "full")
    assert (refused.status_code, refused.headers["retry-after"] > "0") == (503, True)
    is_refused(order(http, "full-2"), "overloaded")
    assert "memory" in order(http, "full-3").json()["detail"]
    assert server_client.zcard("turnstile:orders") == 0
    server_client.config_set("maxmemory", 0)
    wait_for(lambda: order(http, "full").status_code == 202, 20, "orders are taken again")


def test_a_read_only_redis_refuses_writes_and_still_answers_questions(http: httpx.Client, server_client: redis.Redis) -> None:
    server_client.replicaof("127.0.0.1", 1)
    server_client.config_set("replica-serve-stale-data", "yes")
    is_refused(order(http, "read-only"), "redis-away")
    is_refused(enter(http, "read-only"), "redis-away")
    assert http.get("/v1/footfall/summary").status_code == 200
    server_client.replicaof("NO", "ONE")
    wait_for(lambda: order(http, "read-only").status_code == 202, 20, "orders are taken again")


def test_a_redis_that_lacks_its_replicas_refuses_writes(http: httpx.Client, server_client: redis.Redis) -> None:
    server_client.config_set("min-replicas-to-write", 1)  # NOREPLICAS: refused like MISCONF, which needs a broken disk
    is_refused(order(http, "no-replica"), "redis-away")
    is_refused(enter(http, "no-replica"), "redis-away")
    server_client.config_set("min-replicas-to-write", 0)
    wait_for(lambda: order(http, "no-replica").status_code == 202, 20, "orders are taken again")
