"""A Redis that hangs, is gone, full, read-only or short of replicas: 503 soon, then at once, and over when it is over."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import httpx
import pytest
import redis
from processes import wait_for
from servers import Server
from web_site import serving

from jobs.setting_values import RateLimit
from jobs.settings import Settings
from web import admission
from web.admission import Kind
from web.pulse import PATIENCE_S

ENTRY = "/v1/entries", {"gate": "north"}
LINE = {"sku": "A", "quantity": 1}
NEW_WORK = {
    "/v1/entries": '{"gate": "north", "event_id": "hanging"}',
    "/v1/orders": '{"lines": [{"sku": "A", "quantity": 1}]}',
    "/v1/jobs": '{"task": "footfall.roll_up"}',
}
KEYS_LOADED = 10_000
LOAD_DELAY_US = 10_000
"""Of each key: it loads for 100 s, until it is told to be quick."""
BETWEEN_EVENTS = 1_024
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


def test_of_each_kind_of_new_work_only_some_waits_for_a_redis_that_hangs(
    settings: Settings, own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "WAITING", dict.fromkeys(Kind, (1, 1)))
    barrier = threading.Barrier(4 * len(NEW_WORK))

    def send(http: httpx.Client, path: str) -> str:
        with httpx.Client(base_url=http.base_url, trust_env=False, timeout=30) as client:
            client.get("/livez")
            barrier.wait(20)
            refused = client.post(path, content=NEW_WORK[path], headers={"Idempotency-Key": "hanging"})
            assert refused.status_code == 503
            return f"{path} {refused.json()['detail']}"

    with serving(replace(settings, redis_url=own_server.url)) as http, ThreadPoolExecutor(barrier.parties) as threads:
        own_server.send(signal.SIGSTOP)
        try:
            said = list(threads.map(partial(send, http), [*NEW_WORK] * 4))
        finally:
            own_server.send(signal.SIGCONT)
    for path in NEW_WORK:
        assert any(one.startswith(path) and "are being accepted right now" in one for one in said), said


def test_a_redis_that_was_killed_is_back_without_a_restart(http: httpx.Client, own_server: Server) -> None:
    own_server.kill()
    is_refused(order(http, "killed"), "redis-away")
    is_refused(enter(http, "killed"), "redis-away")
    own_server.start()
    wait_for(lambda: order(http, "killed").status_code == 202, 20, "orders are taken again")
    wait_for(lambda: enter(http, "killed").status_code == 202, 20, "entries are taken again")


def test_a_redis_that_loads_its_data_refuses_at_once_and_is_back_without_a_restart(
    http: httpx.Client, own_server: Server, server_client: redis.Redis
) -> None:
    server_client.mset({f"load:{number}": os.urandom(BETWEEN_EVENTS) for number in range(KEYS_LOADED)})
    server_client.bgrewriteaof()  # read back in the form of a snapshot, it serves events after bytes, not after 1,024 commands
    wait_for(lambda: server_client.info("persistence")["aof_rewrite_in_progress"] == 0, 20, "the file is rewritten")
    own_server.kill()
    own_server.launch(key_load_delay=str(LOAD_DELAY_US), loading_process_events_interval_bytes=str(BETWEEN_EVENTS))
    wait_for(lambda: is_loading(own_server), 20, "it loads")
    wait_for(lambda: "loading" in http.get("/v1/orders").text, 20, "it is known to load")
    started = time.monotonic()
    for number in range(10):
        is_refused(order(http, f"loading-{number}"), "redis-away")
        is_refused(enter(http, f"loading-{number}"), "redis-away")
    assert time.monotonic() - started < 10 * PATIENCE_S, "nobody waits for a Redis that is known to load"
    assert is_loading(own_server), "all of this while it was loading"
    server_client.config_set("key-load-delay", 0)
    wait_for(lambda: order(http, "loading-0").status_code == 202, 20, "orders are taken again")
    wait_for(lambda: enter(http, "loading-0").status_code == 202, 20, "entries are taken again")
    assert server_client.zcard("turnstile:orders") == 1


def is_loading(server: Server) -> bool:
    with redis.Redis.from_url(server.url) as client:
        try:
            return bool(client.info("persistence")["loading"])
        except redis.exceptions.ConnectionError:  # it does not listen yet
            return False


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


def test_a_redis_whose_disk_fails_refuses_writes(http: httpx.Client, own_server: Server, server_client: redis.Redis) -> None:
    in_the_way = own_server.folder / "dump.rdb"  # a folder of that name: the snapshot cannot take its place
    in_the_way.mkdir()
    server_client.config_set("save", "3600 1000000")  # without one, failed snapshots are no reason to refuse
    server_client.bgsave()
    wait_for(lambda: server_client.info("persistence")["rdb_last_bgsave_status"] == "err", 20, "the snapshot has failed")
    with pytest.raises(redis.exceptions.ResponseError, match="MISCONF"):
        server_client.set("x", 1)
    is_refused(order(http, "disk"), "redis-away")
    is_refused(enter(http, "disk"), "redis-away")
    assert server_client.zcard("turnstile:orders") == 0 and int(server_client.hget("turnstile:entries", "accepted") or 0) == 1
    in_the_way.rmdir()
    server_client.bgsave()
    wait_for(lambda: order(http, "disk").status_code == 202, 20, "orders are taken again")
    assert enter(http, "disk").status_code == 202


def test_a_hanging_redis_lets_nobody_wait_for_the_others_of_a_client(settings: Settings, own_server: Server) -> None:
    limited = replace(settings, redis_url=own_server.url, rate_limits=(RateLimit("*", 1_000, 1),))
    barrier = threading.Barrier(6)

    def ask(http: httpx.Client) -> float:
        barrier.wait(20)
        started = time.monotonic()
        is_refused(http.get("/v1/orders"), "redis-away")
        return time.monotonic() - started

    with serving(limited) as http, ThreadPoolExecutor(barrier.parties) as threads:
        assert http.get("/v1/orders").status_code == 200
        own_server.send(signal.SIGSTOP)
        try:
            waited = list(threads.map(ask, [http] * barrier.parties))
        finally:
            own_server.send(signal.SIGCONT)
    assert max(waited) < PATIENCE_S + SLACK_S
