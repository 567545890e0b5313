"""The express lane: the same answers as the application's, for the same requests, without the application."""

import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest
import redis
from processes import wait_for
from web_site import TWICE, Counted, counted, seen
from wire import Wire, entry, parsed, talking

from jobs import keys
from jobs.setting_values import ApiKey, RateLimit, hash_api_key
from jobs.settings import Settings
from web.pulse import PATIENCE_S

KEY = "a-key-that-is-long-enough"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_numbers = itertools.count(1_000)


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[tuple[httpx.Client, Counted]]:
    with counted(settings) as found:
        yield found


def body(**fields: object) -> bytes:
    return json.dumps({"gate": "n", "event_id": f"event {next(_numbers)}", **fields}).encode()


def post(http: httpx.Client, content: bytes, *headers: tuple[str, str]) -> httpx.Response:
    return http.post("/v1/entries", content=content, headers=list(headers))


def accepted(client: redis.Redis) -> int:
    return int(client.hget(keys.ENTRIES, "accepted") or 0)


PLAIN: dict[str, tuple[Callable[[], bytes], list[tuple[str, str]]]] = {
    "no media type": (body, []),
    "JSON": (body, [("content-type", "application/json")]),
    "of a sensor": (lambda: json.dumps({"gate": "n", "sensor": "s", "seq": next(_numbers)}).encode(), []),
    "in a trace": (body, [("traceparent", TRACEPARENT)]),
    "with a broken trace": (body, [("traceparent", "00-zz")]),
    "to be closed": (body, [("connection", "close")]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_the_express_lane_answers_is_what_the_application_answers(
    site: tuple[httpx.Client, Counted], redis_client: redis.Redis, name: str
) -> None:
    http, app = site
    make, headers = PLAIN[name]
    for _ in range(2):
        ours, theirs = make(), make()
        for number in (1, 0):
            answer = seen(post(http, ours, *headers))
            assert app.requests == 0, "the express lane has answered"
            assert answer == seen(post(http, theirs, *headers, *TWICE))
            assert answer[0] == 202 and json.loads(answer[2]) == {"accepted": number, "duplicates": 1 - number, "rejected": []}
            assert app.requests == 1
            app.requests = 0
    assert accepted(redis_client) == 4


ODD = {
    "empty": (b"", []),
    "blank": (b" \n ", []),
    "not JSON": (b"{", []),
    "not UTF-8": (b'{"gate": "\xff"}', []),
    "deep": (b"[" * 10_000, []),
    "no identity": (b'{"gate": "n"}', []),
    "a gate with a bar": (b'{"gate": "a|b", "event_id": "1"}', []),
    "of the future": (b'{"gate": "n", "event_id": "1", "at": "2999-01-01T00:00:00Z"}', []),
    "too large": (b" " * (1 << 20) + b"{}", []),
    "another media type": (b"<a/>", [("content-type", "text/xml")]),
    "of another origin": (b"{}", [("origin", "https://evil.example")]),
    "of another site": (b"{}", [("sec-fetch-site", "cross-site")]),
    "of another host": (b"{}", [("host", "evil.example")]),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_refused_is_refused_by_the_application_alone(
    site: tuple[httpx.Client, Counted], redis_client: redis.Redis, name: str
) -> None:
    http, app = site
    content, headers = ODD[name]
    answer = post(http, content, *headers)
    assert 400 <= answer.status_code < 500 and answer.headers["content-type"] == "application/problem+json"
    assert seen(answer) == seen(post(http, content, *headers, *TWICE))
    assert app.requests == 2 and accepted(redis_client) == 0


def test_keys_and_limits_hold_on_the_express_lane_too(redis_client: redis.Redis, settings: Settings) -> None:
    named = replace(settings, api_keys=(ApiKey("gate", hash_api_key(KEY)),), rate_limits=(RateLimit("entries", 20, 3_600),))
    bearer = ("authorization", f"Bearer {KEY}")
    with counted(named) as (http, app):
        assert [post(http, body(), *headers).status_code for headers in ([], [("authorization", "Bearer wrong")])] == [401, 401]
        assert post(http, body(), bearer).status_code == 202, "by the application, which borrows tokens"
        app.requests = 0
        answers = [post(http, body(), bearer, *more) for more in ([], TWICE) * 15]
    assert [answer.status_code for answer in answers] == [202] * 19 + [429] * 11
    for answer in answers:
        assert answer.headers["ratelimit-policy"] == '"entries";q=20;w=3600' and '"entries";r=' in answer.headers["ratelimit"]
    assert accepted(redis_client) == 20


def test_the_trace_of_the_request_goes_on_in_the_answer(site: tuple[httpx.Client, Counted]) -> None:
    http, app = site
    given = post(http, body(), ("traceparent", TRACEPARENT)).headers["traceparent"]
    assert given[:36] == TRACEPARENT[:36] and given != TRACEPARENT
    made = {post(http, body()).headers["traceparent"][3:35] for _ in range(3)}
    assert len(made) == 3 and app.requests == 0


def test_a_write_that_redis_does_not_answer_is_503_and_counts_once_when_it_is_sent_again(
    site: tuple[httpx.Client, Counted], redis_client: redis.Redis
) -> None:
    http, app = site
    content = body()
    redis_client.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
    try:
        started = time.monotonic()
        answer = post(http, content, ("traceparent", TRACEPARENT))
        assert time.monotonic() - started >= PATIENCE_S * 0.9
    finally:
        redis_client.execute_command("CLIENT", "UNPAUSE")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:turnstile:problem:redis-away")
    assert int(answer.headers["retry-after"]) >= 1 and answer.headers["cache-control"] == "no-store"
    assert answer.headers["traceparent"][:36] == TRACEPARENT[:36]
    assert app.requests == 0
    wait_for(lambda: post(http, content).status_code == 202, 30, "it is taken again")
    assert accepted(redis_client) == 1


def test_a_full_redis_is_503_at_once(site: tuple[httpx.Client, Counted], redis_client: redis.Redis) -> None:
    http, _app = site
    assert post(http, body()).status_code == 202
    redis_client.config_set("maxmemory", 1)
    try:
        first, second = post(http, body()), post(http, body())
    finally:
        redis_client.config_set("maxmemory", 0)
    assert {first.json()["type"], second.json()["type"]} <= {
        f"urn:turnstile:problem:{name}" for name in ("redis-away", "overloaded")
    }
    wait_for(lambda: post(http, body()).status_code == 202, 30, "it is taken again")


def test_entries_behind_one_another_on_a_connection_are_answered_in_turn(site: tuple[httpx.Client, Counted]) -> None:
    http, app = site
    with talking(http.base_url.port or 0) as wire:
        wire.send(entry(1) + entry(1) + b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" + entry(2))
        first, second, alive = parsed(wire.rest())
    assert [json.loads(answer.body)["accepted"] for answer in (first, second)] == [1, 0]
    assert alive.status == 200 and app.requests == 1, "for /livez alone; nothing is read behind a request that closes"


@pytest.mark.parametrize(("blanks", "requests"), [(10, 0), (200_000, 1)])
def test_a_body_may_come_in_pieces_and_a_large_one_is_the_applications(
    site: tuple[httpx.Client, Counted], redis_client: redis.Redis, blanks: int, requests: int
) -> None:
    http, app = site
    content = body() + b" " * blanks
    head = b"POST /v1/entries HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content)
    with talking(http.base_url.port or 0) as wire:
        for piece in (head[:20], head[20:], content[:5]):
            wire.send(piece)
            _sent_apart(wire)
        wire.send(content[5:])
        [answer] = parsed(wire.rest())
    assert (answer.status, answer.headers["connection"], accepted(redis_client), app.requests) == (202, "close", 1, requests)


def _sent_apart(wire: Wire) -> None:
    """Gives the server a chance to see the pieces one by one; the test holds either way."""
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    time.sleep(0.02)


def test_a_client_that_goes_away_meanwhile_costs_the_others_nothing(
    site: tuple[httpx.Client, Counted], redis_client: redis.Redis
) -> None:
    http, app = site
    redis_client.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
    try:
        with talking(http.base_url.port or 0) as gone:
            gone.send(entry(1))
            wait_for(lambda: _blocked(redis_client), 30, "it waits for Redis")
    finally:
        redis_client.execute_command("CLIENT", "UNPAUSE")
    wait_for(lambda: accepted(redis_client) == 1, 30, "it is accepted, though nobody waits for the answer")
    assert post(http, body()).json()["accepted"] == 1 and app.requests == 0


def test_who_reads_no_answers_is_left_to_the_application_which_waits(redis_client: redis.Redis, settings: Settings) -> None:
    sent = 0

    def is_answered() -> bool:
        return accepted(redis_client) >= sent or app.requests > 0

    with counted(settings, send_buffer=4_096) as (http, app), socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect(("127.0.0.1", http.base_url.port or 0))
        while app.requests == 0 and sent < 5_000:
            deaf.sendall(b"".join(entry(number) for number in range(sent, sent + 15)))
            sent += 15
            wait_for(is_answered, 30, "those that may wait are answered")
        assert app.requests == 1, "the first that comes while as many answers wait as are kept for who does not read"


def _blocked(client: redis.Redis) -> bool:
    return int(client.info("clients")["blocked_clients"]) > 0
