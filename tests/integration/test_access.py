"""Who may, over HTTP: keys with scopes, revoked ones, signed requests, and what holds while Redis is away."""

import base64
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import docs_examples
import httpx
import pytest
import redis
import redis.asyncio
from asking import Ask
from cutting import Cutting
from processes import ROOT, wait_for
from servers import Server
from starlette.responses import Response
from starlette.types import Message, Receive, Send
from starlette.types import Scope as ASGIScope
from web_site import serving

from jobs import connections, keys
from jobs.access import api_keys
from jobs.access.api_keys import Kind
from jobs.access.scopes import Scope, granted
from jobs.settings import Settings
from web.app import OPERATIONS
from web.keyring import Keyring
from web.security import Security

PEPPER = "a pepper of at least 32 characters"
LIMIT_S = 30.0
ENTRY = b'{"gate":"north","event_id":"e1"}'
ORDER = b'{"lines":[{"sku":"A","quantity":1}]}'


def keyed(url: str | None) -> Settings:
    return Settings(redis_url=url, key_pepper=PEPPER, max_body_bytes=10_000)


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(keyed(settings.redis_url)) as client:
        yield client


def make(client: redis.Redis, *scopes: Scope, kind: Kind = "key", name: str = "shop") -> tuple[str, str]:
    return api_keys.create(client, PEPPER, name, kind=kind, scopes=scopes, now=time.time(), lifetime_s=None, by="test")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def is_refused(site: httpx.Client, key: str) -> bool:
    return site.get("/v1/queues", headers=bearer(key)).status_code == 401


def kind_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


# --- keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", Scope)
def test_a_key_opens_exactly_the_calls_of_its_scope(site: httpx.Client, redis_client: redis.Redis, scope: Scope) -> None:
    _, key = make(redis_client, scope)
    for operation in OPERATIONS:
        path = re.sub(r"\{\w+\}", "none", operation.path)
        if "events" in path or not operation.needs():
            continue
        answer = site.request(operation.method, path, headers=bearer(key))
        if granted([scope]) & operation.needs():
            assert answer.status_code not in (401, 403), f"{operation.method} {path}: {answer.text}"
            continue
        assert kind_of(answer) == (403, "missing-scope")
        assert "key of shop has not the scope" in answer.json()["detail"]
        assert all(needed in answer.json()["detail"] for needed in operation.needs())


@pytest.mark.parametrize("scope", [Scope.OPS_READ, Scope.OPS_WRITE])
def test_a_line_feed_behind_a_path_opens_no_call_to_another_scope(
    site: httpx.Client, redis_client: redis.Redis, scope: Scope
) -> None:
    _, key = make(redis_client, scope)
    for path, body in (("/v1/entries", ENTRY), ("/v1/orders", ORDER)):
        answer = site.post(f"{path}%0A", content=body, headers={**bearer(key), "Idempotency-Key": "k"})
        assert answer.status_code in (403, 404), answer.text
    assert redis_client.keys("turnstile:order*") + redis_client.keys("turnstile:entries*") == []


def test_pages_need_ops_read_to_look_and_ops_write_for_their_buttons(site: httpx.Client, redis_client: redis.Redis) -> None:
    looks, changes = make(redis_client, Scope.OPS_READ, name="day")[1], make(redis_client, Scope.OPS_WRITE, name="night")[1]
    sells = make(redis_client, Scope.ORDERS, name="till")[1]
    buttons = ("/actions/redrive", "/rq/job/x/requeue")
    for path in ("/", "/rq/", "/actions/discard?target=x", "/static/page.css"):
        assert site.get(path, headers=bearer(looks)).status_code in (200, 404)
        assert kind_of(site.get(path, headers=bearer(sells))) == (403, "missing-scope")
        assert site.get(path, headers=bearer(changes)).status_code in (200, 404)
    for path in buttons:
        assert kind_of(site.post(path, headers=bearer(looks))) == (403, "missing-scope")
        answer = site.post(path, headers=bearer(changes))
        assert "missing-scope" not in answer.text and answer.status_code != 401
    for path in ("/docs", "/openapi.json"):
        assert site.get(path).status_code == 401
        assert site.get(path, headers=bearer(sells)).status_code == 200


def test_a_key_may_come_in_three_ways_and_nothing_else_opens(site: httpx.Client, redis_client: redis.Redis) -> None:
    key_id, key = make(redis_client, Scope.OPS_READ)
    device_id, secret = make(redis_client, Scope.OPS_READ, kind="device")
    basic = base64.b64encode(f"anybody:{key}".encode()).decode()
    for headers in (bearer(key), {"X-API-Key": key}, {"Authorization": f"basic {basic}"}, {"authorization": f"BEARER  {key}"}):
        assert site.get("/v1/queues", headers=headers).status_code == 200
    other = key[:-1] + ("A" if key[-1] != "A" else "B")
    wrong = [other, key + "x", key[:-1], f"ts_{key_id}_", f"ts_{device_id}_{secret}", f"ts_{device_id}_", "ts_", secret]
    for text in [*wrong, "\xff" * 60, f"ts_{'0' * 20}_{'x' * 43}"]:
        answer = site.get("/v1/queues", headers=[(b"Authorization", f"Bearer {text}".encode("latin-1"))])
        assert kind_of(answer) == (401, "unauthenticated") and "Bearer" in answer.headers["www-authenticate"]
    assert site.get("/v1/queues", headers={"Authorization": "Basic !"}).status_code == 401
    assert site.get("/v1/queues").status_code == 401
    assert [site.get(path).status_code for path in ("/livez", "/readyz")] == [200, 200]


def test_a_wrong_key_that_was_not_made_here_costs_no_round_trip(site: httpx.Client, redis_client: redis.Redis) -> None:
    calls = "cmdstat_hmget"

    def asked() -> int:
        return int(redis_client.info("commandstats").get(calls, {"calls": 0})["calls"])

    before = asked()
    for number in range(20):
        assert site.get("/v1/queues", headers=bearer(f"ts_{number:020d}_{'x' * 43}")).status_code == 401
    assert asked() == before
    _, key = make(redis_client, Scope.OPS_READ)
    assert site.get("/v1/queues", headers=bearer(key)).status_code == 200
    assert asked() > before


def test_a_revoked_or_expired_key_ends_in_every_web_process(redis_client: redis.Redis, settings: Settings) -> None:
    key_id, key = make(redis_client, Scope.OPS_READ)
    now = time.time()
    _, brief = api_keys.create(
        redis_client, PEPPER, "x", kind="key", scopes=(Scope.OPS_READ,), now=now, lifetime_s=2.0, by="test"
    )
    _, kept = make(redis_client, Scope.OPS_READ)
    with serving(keyed(settings.redis_url)) as one, serving(keyed(settings.redis_url)) as other:
        for site in (one, other):
            assert site.get("/v1/queues", headers=bearer(key)).status_code == 200
        api_keys.revoke(redis_client, key_id, now=time.time(), by="test")
        for site in (one, other):
            for ended in (key, brief):
                wait_for(partial(is_refused, site, ended), LIMIT_S, "it is refused")
            assert site.get("/v1/queues", headers=bearer(kept)).status_code == 200


def test_the_last_use_of_a_key_is_noted(site: httpx.Client, redis_client: redis.Redis) -> None:
    key_id, key = make(redis_client, Scope.OPS_READ)
    unused, _ = make(redis_client, Scope.OPS_READ)
    before = time.time()
    assert site.get("/v1/queues", headers=bearer(key)).status_code == 200
    wait_for(lambda: redis_client.hexists(keys.API_KEYS_USED, key_id), LIMIT_S, "the use is noted")
    used = {shown.id: shown.used_at for shown in api_keys.listed(redis_client)}
    assert used[unused] is None and (used[key_id] or 0) >= before - 1


def test_while_redis_is_away_known_keys_go_on_and_unknown_ones_get_503(own_server: Server) -> None:
    client = connections.connect(own_server.url)
    _, known = make(client, Scope.OPS_READ)
    _, unknown = make(client, Scope.OPS_READ)
    with serving(keyed(own_server.url)) as site:
        assert site.get("/openapi.json", headers=bearer(known)).status_code == 200
        own_server.kill()
        assert site.get("/openapi.json", headers=bearer(known)).status_code == 200
        answer = site.get("/openapi.json", headers=bearer(unknown))
        assert kind_of(answer) == (503, "redis-away") and answer.headers["retry-after"]
        assert site.get("/openapi.json", headers=bearer("made-up")).status_code == 401
        own_server.start()
        wait_for(lambda: site.get("/openapi.json", headers=bearer(unknown)).status_code == 200, LIMIT_S, "it works again")
    client.connection_pool.disconnect()


def test_where_the_keys_cannot_be_read_none_opens(site: httpx.Client, redis_client: redis.Redis) -> None:
    key_id, key = make(redis_client, Scope.OPS_READ)
    assert site.get("/v1/queues", headers=bearer(key)).status_code == 200
    redis_client.hset(keys.API_KEYS, key_id, "not a record")
    wait_for(partial(is_refused, site, key), LIMIT_S, "a broken record opens nothing")
    assert api_keys.listed(redis_client) == []
    _, other = make(redis_client, Scope.OPS_READ)
    assert site.get("/v1/queues", headers=bearer(other)).status_code == 200
    redis_client.set(keys.API_KEYS, "not a hash")
    wait_for(lambda: site.get("/v1/queues", headers=bearer(other)).status_code == 500, LIMIT_S, "nothing can be read")


def test_a_key_does_not_let_a_page_of_another_origin_change_anything(site: httpx.Client, redis_client: redis.Redis) -> None:
    _, key = make(redis_client, Scope.ADMIN)
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        answer = site.put("/v1/stock/A", content=b'{"on_hand":1}', headers=bearer(key) | headers)
        assert kind_of(answer) == (403, "forbidden")


# --- signed requests -------------------------------------------------------------------------


class Device:
    """Signs with the code that the document shows."""

    def __init__(self, key_id: str, secret: str) -> None:
        names: dict[str, Any] = {}
        [block] = [block for block in docs_examples.blocks(ROOT / "docs" / "front-door.md") if "def signed_at(" in block.text]
        exec(block.compiled(), names)
        self._sign, self._sign_at, self._key = names["signed"], names["signed_at"], (key_id, secret)

    def sign(self, method: str, target: str, body: bytes = b"") -> dict[str, str]:
        signed: dict[str, str] = self._sign(*self._key, method, target, body)
        return signed

    def sign_at(self, method: str, target: str, body: bytes, at: float) -> dict[str, str]:
        signed: dict[str, str] = self._sign_at(*self._key, method, target, body, "an-id", str(int(at)))
        return signed


def test_a_device_signs_as_the_document_shows(site: httpx.Client, redis_client: redis.Redis) -> None:
    device = Device(*make(redis_client, Scope.ENTRIES, Scope.ORDERS, kind="device"))
    for _ in range(2):
        answer = site.post("/v1/entries", content=ENTRY, headers=device.sign("POST", "/v1/entries", ENTRY))
        assert answer.status_code == 202
    assert answer.json()["duplicates"] == 1
    lines = b"".join(b'{"gate":"n","event_id":"l%d"}\n' % number for number in range(100))
    headers = device.sign("POST", "/v1/entries", lines) | {"Content-Type": "application/x-ndjson"}
    assert site.post("/v1/entries", content=iter([lines[:50], lines[50:]]), headers=headers).json()["accepted"] == 100
    headers = device.sign("POST", "/v1/orders", ORDER) | {"Idempotency-Key": "k"}
    assert site.post("/v1/orders", content=ORDER, headers=headers).status_code == 202
    target = "/v1/orders?status=accepted&limit=%31"
    assert site.get(target, headers=device.sign("GET", target)).status_code == 200
    assert kind_of(site.get("/v1/queues", headers=device.sign("GET", "/v1/queues"))) == (403, "missing-scope")


def test_a_signed_order_is_taken_once_in_whichever_process_and_entries_count_once(
    site: httpx.Client, redis_client: redis.Redis, settings: Settings
) -> None:
    device = Device(*make(redis_client, Scope.ENTRIES, Scope.ORDERS, kind="device"))
    headers = device.sign("POST", "/v1/orders", ORDER) | {"Idempotency-Key": "k"}
    assert site.post("/v1/orders", content=ORDER, headers=headers).status_code == 202
    with serving(keyed(settings.redis_url)) as other:
        for again in (site, other):
            assert kind_of(again.post("/v1/orders", content=ORDER, headers=headers)) == (401, "replayed")
    anew = device.sign("POST", "/v1/orders", ORDER) | {"Idempotency-Key": "k"}
    assert site.post("/v1/orders", content=ORDER, headers=anew).headers["idempotency-replayed"] == "true"
    assert redis_client.zcard(keys.ORDERS) == 1
    [one, *_] = list(redis_client.scan_iter(keys.signed("*", "*")))
    assert 0 < redis_client.ttl(one) <= 601
    headers = device.sign("POST", "/v1/entries", ENTRY)
    answers = [site.post("/v1/entries", content=ENTRY, headers=headers).json() for _ in range(2)]
    assert [answer["accepted"] for answer in answers] == [1, 0]


def test_a_signed_request_comes_for_the_first_time_though_the_note_of_it_was_answered_to_nobody(
    redis_client: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    device = Device(*make(redis_client, Scope.ORDERS, kind="device"))
    front = Cutting(tmp_path, str(settings.redis_url))
    with serving(keyed(front.url)) as site:
        headers = device.sign("POST", "/v1/orders", ORDER) | {"Idempotency-Key": "k"}
        front.cut(keys.signed("", "").encode()[:-1])
        assert site.post("/v1/orders", content=ORDER, headers=headers).status_code == 202
        assert front.cuts == 1
        assert kind_of(site.post("/v1/orders", content=ORDER, headers=headers)) == (401, "replayed")
    front.close()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"webhook-signature": "v1,AAAA"}, "not that of this request"),
        ({"webhook-signature": ""}, "not that of this request"),
        ({"webhook-id": "another"}, "not that of this request"),
        ({"webhook-id": "a.b"}, "webhook-id"),
        ({"webhook-timestamp": "soon"}, "webhook-timestamp"),
        ({"webhook-key": "0" * 20}, "webhook-key"),
        ({"webhook-key": ""}, "webhook-key"),
    ],
)
def test_a_signature_that_is_not_right_says_why(
    site: httpx.Client, redis_client: redis.Redis, change: dict[str, str], why: str
) -> None:
    device = Device(*make(redis_client, Scope.ADMIN, kind="device"))
    headers = device.sign("POST", "/v1/entries", ENTRY) | change
    answer = site.post("/v1/entries", content=ENTRY, headers=headers)
    assert kind_of(answer) == (401, "unauthenticated") and why in answer.json()["detail"]
    assert redis_client.exists(keys.ENTRIES) == 0


def test_a_signature_is_of_one_body_method_path_and_time(site: httpx.Client, redis_client: redis.Redis) -> None:
    device = Device(*make(redis_client, Scope.ADMIN, kind="device"))
    headers = device.sign("POST", "/v1/entries", ENTRY)
    for method, target, body in (
        ("POST", "/v1/entries", ENTRY + b" "),
        ("PUT", "/v1/entries", ENTRY),
        ("POST", "/v1/entries?", ENTRY + b"x"),
        ("POST", "/v1/entries?a=1", ENTRY),
        ("POST", "/v1/%65ntries", ENTRY),
    ):
        assert site.request(method, target, content=body, headers=headers).status_code == 401
    for at in (time.time() - 400, time.time() + 400):
        answer = site.post("/v1/entries", content=ENTRY, headers=device.sign_at("POST", "/v1/entries", ENTRY, at))
        assert answer.status_code == 401 and "server's time" in answer.json()["detail"]


def test_a_key_without_a_secret_of_a_device_signs_nothing(site: httpx.Client, redis_client: redis.Redis) -> None:
    key_id, _ = make(redis_client, Scope.ADMIN)
    guessed = "whsec_" + base64.b64encode(b"").decode()
    for secret in (guessed, api_keys.device_secret(PEPPER, key_id)):
        headers = Device(key_id, secret).sign("POST", "/v1/entries", ENTRY)
        assert site.post("/v1/entries", content=ENTRY, headers=headers).status_code == 401


@pytest.mark.parametrize(("announced", "pieces", "status"), [(10_001, 0, 413), (None, 3, 413), (10_000, 2, 204), (None, 1, 408)])
def test_a_signed_body_is_bounded_before_and_while_it_arrives(
    ask: Ask, redis_client: redis.Redis, announced: int | None, pieces: int, status: int
) -> None:
    """`pieces` are how many of 5,000 bytes are read; the client goes away after one."""
    device = Device(*make(redis_client, Scope.ENTRIES, kind="device"))
    signed = device.sign("POST", "/v1/entries", b"x" * 10_000)
    headers = [(name.encode(), value.encode()) for name, value in signed.items()]
    headers += [] if announced is None else [(b"content-length", str(announced).encode())]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/entries",
        "raw_path": b"/v1/entries",
        "query_string": b"",
        "headers": headers,
    }
    messages: list[Message] = [{"type": "http.request", "body": b"x" * 5_000, "more_body": True}] * max(pieces, 1)
    if announced:
        messages[-1] = {**messages[-1], "more_body": False}
    elif pieces == 1:
        messages.append({"type": "http.disconnect"})
    read: list[Message] = []
    answers: list[int] = []

    async def receive() -> Message:
        read.append(messages[len(read)])
        return read[-1]

    async def send(message: Message) -> None:
        answers.extend([message["status"]] if "status" in message else [])

    async def app(scope: ASGIScope, receive: Receive, send: Send) -> None:
        assert len((await receive())["body"]) == 10_000
        await Response(status_code=204)(scope, receive, send)

    async def call(client: redis.asyncio.Redis) -> None:
        await Security(app, Keyring(client, keyed(None)), OPERATIONS, 10_000)(scope, receive, send)

    ask(call)
    assert answers == [status]
    assert len([one for one in read if one["type"] == "http.request"]) == pieces
