"""The edge over raw sockets: what is doubtful is answered once and closed, and no request is taken for another."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import redis
from processes import ROOT, Process, Processes, wait_for
from servers import Server
from wire import ENTRY, GET, LIMIT_S, POST, Answer, entry, exchange, serve, talking

from jobs import keys
from web import edge, head

BODY = ENTRY % 7
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
SMUGGLED = entry(99)
MEGABYTE = 1 << 20
HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


def with_headers(*lines: bytes) -> bytes:
    """A POST of the body, or of what would be smuggled behind it."""
    return POST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + BODY


@pytest.fixture(scope="module")
def site(redis_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Process]]:
    """One process for all these tests: nothing that they send may harm it."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()  # an old job of another test would have the process refuse what these send
    environ = {**os.environ, "REDIS_URL": redis_server.url, "PYTHONPATH": str(ROOT)}
    processes = Processes(tmp_path_factory.mktemp("edge"), environ)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    yield port, serve(processes, port, TURNSTILE_KEEP_ALIVE_S="0.5")
    processes.end()


@pytest.fixture
def port(site: tuple[int, Process], redis_client: redis.Redis) -> int:
    """The port of the process, on an empty Redis."""
    return site[0]


def accepted(client: redis.Redis) -> int:
    return int(client.hget(keys.ENTRIES, "accepted") or 0)


def is_refusal(answer: Answer, status: int, name: str) -> bool:
    """Whether it is a problem document of this kind, and the last answer of its connection."""
    problem = msgspec.json.decode(answer.body)
    return (
        answer.status == problem["status"] == status
        and problem["type"] == f"urn:turnstile:problem:{name}"
        and answer.headers["content-type"] == "application/problem+json"
        and answer.headers["connection"] == "close"
    )


DOUBTFUL = {
    "both lengths": with_headers(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked"),
    "both lengths, chunked first": with_headers(b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(BODY)),
    "two equal lengths": with_headers(*[b"Content-Length: %d" % len(BODY)] * 2),
    "two different lengths": with_headers(b"Content-Length: %d" % len(BODY), b"Content-Length: 0"),
    "a list of lengths": with_headers(b"Content-Length: %d, %d" % (len(BODY), len(BODY))),
    "chunked and identity": with_headers(b"Transfer-Encoding: chunked, identity"),
    "identity and chunked": with_headers(b"Transfer-Encoding: identity, chunked"),
    "gzip and chunked": with_headers(b"Transfer-Encoding: gzip, chunked"),
    "identity": with_headers(b"Transfer-Encoding: identity"),
    "an unknown coding": with_headers(b"Transfer-Encoding: xchunked"),
    "two codings": with_headers(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    "a control character in the coding": with_headers(b"Transfer-Encoding: \x0bchunked"),
    "a folded coding": with_headers(b"Transfer-Encoding:", b" chunked"),
    "chunked in HTTP/1.0": with_headers(b"Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a plus before the length": with_headers(b"Content-Length: +5"),
    "a hexadecimal length": with_headers(b"Content-Length: 0x5"),
    "a negative length": with_headers(b"Content-Length: -5"),
    "an empty length": with_headers(b"Content-Length:"),
    "a length beyond 64 bits": with_headers(b"Content-Length: 99999999999999999999999"),
    "a blank before the colon": with_headers(b"Content-Length : %d" % len(BODY)),
    "a blank before the first header": POST.replace(b"Host", b" Host") + b"\r\n",
    "a header without a colon": with_headers(b"Content-Length"),
    "a header without a name": with_headers(b": 5"),
    "a folded header": with_headers(b"X-Note: a", b" b", b"Content-Length: %d" % len(BODY)),
    "bare line feeds": with_headers(b"Content-Length: %d" % len(BODY)).replace(b"\r\n", b"\n"),
    "one bare line feed": with_headers(b"X-Note: a\nContent-Length: %d" % len(BODY)),
    "a bare carriage return": with_headers(b"X-Note: a\rContent-Length: %d" % len(BODY)),
    "a NUL in a header": with_headers(b"X-Note: a\x00b", b"Content-Length: %d" % len(BODY)),
    "a NUL in the target": GET.replace(b"/livez", b"/live\x00z"),
    "bytes above 127 in the target": GET.replace(b"/livez", b"/\xc3\xa9"),
    "a tab instead of a blank": GET.replace(b" ", b"\t", 1),
    "no method": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "a method in lower case": GET.replace(b"GET", b"get"),
    "a tunnel": b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": GET.replace(b"Host: localhost\r\n", b""),
    "half an address as its host": GET.replace(b"Host: localhost", b"Host: [::1"),
    "a host that is none": GET.replace(b"Host: localhost", b"Host: [zz]"),
    "a host with a path": GET.replace(b"Host: localhost", b"Host: localhost/x"),
    "a host with a user": GET.replace(b"Host: localhost", b"Host: other@localhost"),
    "a host with a port that is none": GET.replace(b"Host: localhost", b"Host: localhost:http"),
    "two hosts": GET.replace(b"Host: localhost\r\n", b"Host: localhost\r\nHost: other\r\n"),
    "a body that asks for another protocol": with_headers(
        b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: %d" % len(BODY)
    ),
    "a chunk size beyond 64 bits": CHUNKED + b"f" * 17 + b"\r\n",
    "a hexadecimal mark before a chunk size": CHUNKED + b"0x" + CHUNK,
    "a plus before a chunk size": CHUNKED + b"+" + CHUNK,
    "a minus before a chunk size": CHUNKED + b"-" + CHUNK,
    "a blank behind a chunk size": CHUNKED + CHUNK.replace(b"\r\n", b" \r\n", 1),
    "a bare line feed behind a chunk size": CHUNKED + CHUNK.replace(b"\r\n", b"\n", 1),
    "a bare line feed in a chunk extension": CHUNKED + CHUNK.replace(b"\r\n", b";a\nb\r\n", 1),
    "a chunk longer than its size": CHUNKED + CHUNK.replace(BODY, BODY + b"x"),
    "megabytes of a chunk extension": CHUNKED + b"1;" + b"a" * 3 * MEGABYTE,
    "megabytes of a trailer": CHUNKED + CHUNK + b"0\r\nX-Note: " + b"a" * 3 * MEGABYTE,
}


@pytest.mark.parametrize("request_", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_a_doubtful_request_gets_one_400_and_nothing_behind_it_is_read(
    port: int, redis_client: redis.Redis, request_: bytes
) -> None:
    [answer] = exchange(port, request_ + SMUGGLED)
    assert is_refusal(answer, 400, "malformed")
    assert accepted(redis_client) == 0


@pytest.mark.parametrize("request_", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_a_doubtful_request_that_comes_in_pieces_gets_the_same(port: int, redis_client: redis.Redis, request_: bytes) -> None:
    with talking(port) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, min(len(request_), 400), 7):
            wire.send(request_[at : at + 7])
        wire.send(request_[400:] + SMUGGLED)
        [answer] = wire.answers()
    assert is_refusal(answer, 400, "malformed")
    assert accepted(redis_client) == 0


@pytest.mark.parametrize("garbage", [b"\x00\x01\x02\r\n\r\n", b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"0\r\n\r\n"])
def test_garbage_behind_a_request_is_refused_after_the_request_has_been_answered(
    port: int, redis_client: redis.Redis, garbage: bytes
) -> None:
    first, second = exchange(port, entry(1) + garbage + SMUGGLED)
    assert (first.status, "connection" in first.headers) == (202, False)
    assert is_refusal(second, 400, "malformed")
    assert accepted(redis_client) == 1


def test_a_broken_body_behind_a_request_in_work_is_refused_in_its_turn(port: int, redis_client: redis.Redis) -> None:
    first, second = exchange(port, entry(1) + CHUNKED + b"zz\r\n" + SMUGGLED)
    assert first.status == 202
    assert is_refusal(second, 400, "malformed")
    assert accepted(redis_client) == 1


def test_requests_behind_one_another_are_answered_in_their_order(port: int, redis_client: redis.Redis) -> None:
    answers = exchange(port, entry(1) + GET + entry(2) + entry(1) + CHUNKED + CHUNK + b"0\r\n\r\n" + GET)
    assert [answer.status for answer in answers] == [202, 200, 202, 202, 202, 200]
    assert [msgspec.json.decode(answers[at].body).get("accepted") for at in (0, 2, 3, 4)] == [1, 1, 0, 1]
    assert accepted(redis_client) == 3


def test_more_requests_in_a_row_than_may_wait_are_refused_after_those_that_may(port: int) -> None:
    *served, last = exchange(port, GET * (3 * edge.MAX_PIPELINED))
    assert [answer.status for answer in served] == [200] * (edge.MAX_PIPELINED + 1)
    assert is_refusal(last, 400, "malformed")


@pytest.mark.parametrize("version", [b" HTTP/0.9", b" HTTP/2.0", b""])
def test_another_version_of_the_protocol_is_refused(port: int, version: bytes) -> None:
    [answer] = exchange(port, GET.replace(b" HTTP/1.1", version) + SMUGGLED)
    assert is_refusal(answer, 505, "http-version")


def test_a_request_for_another_protocol_is_answered_as_if_it_had_not_asked_and_nothing_behind_it_is_read(
    port: int, redis_client: redis.Redis
) -> None:
    [answer] = exchange(port, HEAD + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n" + SMUGGLED)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert accepted(redis_client) == 0


def test_a_trailer_does_not_become_a_header(port: int, redis_client: redis.Redis) -> None:
    trailed = CHUNKED + CHUNK + b"0\r\nOrigin: http://elsewhere.example\r\nContent-Type: application/x-ndjson\r\n\r\n"
    first, second = exchange(port, trailed + trailed)
    assert (first.status, second.status) == (202, 202)  # as a header the origin would be refused
    assert accepted(redis_client) == 1


def test_what_follows_a_request_that_closes_is_not_read(port: int, redis_client: redis.Redis) -> None:
    [answer] = exchange(port, HEAD + b"Connection: close\r\n\r\n" + SMUGGLED)
    assert answer.status == 200
    assert accepted(redis_client) == 0


@pytest.mark.parametrize(
    ("start", "status", "name"),
    [
        (HEAD + b"X-Long: " + b"a" * head.MAX_HEAD_BYTES + b"\r\n\r\n", 431, "headers-too-large"),
        (HEAD + b"X-Some: a\r\n" * head.MAX_HEADERS + b"\r\n", 431, "headers-too-large"),
        (HEAD + (b"X-Some: " + b"a" * 1_000 + b"\r\n") * 80 + b"\r\n", 431, "headers-too-large"),
        (b"GET /" + b"a" * head.MAX_TARGET_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "target-too-long"),
    ],
)
def test_a_head_beyond_its_limits_is_refused(port: int, redis_client: redis.Redis, start: bytes, status: int, name: str) -> None:
    for request_ in (start + SMUGGLED, entry(1) + start + SMUGGLED):
        *_others, answer = exchange(port, request_)
        assert is_refusal(answer, status, name)
    assert accepted(redis_client) == 1


def test_a_head_just_within_its_limits_is_served(port: int) -> None:
    start = HEAD + b"X-Some: a\r\n" * 40 + b"X-Long: " + b"a" * (head.MAX_HEAD_BYTES - 800)
    assert exchange(port, start + b"\r\n\r\n")[0].status == 200


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("start", "status"), [(HEAD + b"X-Long: ", 431), (POST + b"Content-Length: %d\r\n\r\n" % (100 * MEGABYTE), 413)]
)
def test_100_megabytes_of_a_header_or_of_a_body_take_less_than_eight_of_memory(
    site: tuple[int, Process], redis_client: redis.Redis, start: bytes, status: int
) -> None:
    port, process = site
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak starts anew
    before = peak_bytes(process)
    with talking(port) as wire:
        wire.send(start)
        sender = threading.Thread(target=pour, args=(wire.socket, b"a" * (100 * MEGABYTE)))
        sender.start()
        wire.until(b"HTTP/1.1 %d " % status)
        sender.join(LIMIT_S)
        assert not sender.is_alive()
    assert peak_bytes(process) - before < 8 * MEGABYTE  # one read at most, and what the process does besides


def pour(into: socket.socket, data: bytes) -> None:
    """Sends until the server has read for long enough and closes. Reads nothing: somebody else waits for the answer."""
    with suppress(ConnectionError):
        into.sendall(data)


def peak_bytes(process: Process) -> int:
    [line] = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1_024


def test_who_asks_first_is_told_to_go_on_or_why_not(port: int, redis_client: redis.Redis) -> None:
    asks = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    with talking(port) as wire:
        wire.send(asks % len(BODY))
        assert wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.received = b""
        wire.send(BODY)
        assert wire.answers()[0].status == 202
    [answer] = exchange(port, asks % (2 * MEGABYTE))
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert accepted(redis_client) == 1


def test_an_answer_before_the_end_of_the_body_closes_the_connection(port: int, redis_client: redis.Redis) -> None:
    start = b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
    [answer] = exchange(port, start, SMUGGLED)
    assert (answer.status, answer.headers["connection"]) == (405, "close")
    assert accepted(redis_client) == 0


def test_more_connections_than_the_limit_are_told_to_come_back(processes: Processes, free_port: int) -> None:
    serve(processes, free_port, TURNSTILE_MAX_CONNECTIONS="3")
    with talking(free_port) as one, talking(free_port) as two, talking(free_port) as three:
        for wire in (one, two, three):
            wire.send(GET)
            wire.until(b"alive")
        [answer] = exchange(free_port, b"")
        assert is_refusal(answer, 503, "too-many-connections")
        assert 1 <= int(answer.headers["retry-after"]) <= 5
        three.send(GET)
        three.until(b"alive")
    wait_for(lambda: exchange(free_port, HEAD + b"Connection: close\r\n\r\n")[0].status == 200, LIMIT_S, "there is room again")
