"""Slow clients: cut off when it is they who are slow, and only then. Nothing here waits for a time of its own:
the clock is another connection, which sends half a request and is cut off when the time is over."""

import select
import socket

import msgspec
import pytest
import redis
from processes import Processes, wait_for
from wire import ENTRY, GET, LIMIT_S, PAUSE, POST, Wire, exchange, serve, talking

from jobs import keys
from web import edge

SHORT_S = 0.6
QUICK = {"TURNSTILE_CLIENT_TIMEOUT_S": str(SHORT_S), "TURNSTILE_KEEP_ALIVE_S": str(2 * SHORT_S)}
ORDER = b'{"lines":[{"sku":"a","quantity":1}],"countdown_s":900}'
SMALL_BUFFER = 4_096


@pytest.fixture
def port(processes: Processes, free_port: int, redis_client: redis.Redis) -> int:
    """A process that is quick to lose patience."""
    serve(processes, free_port, **QUICK)
    return free_port


def pass_the_limit(port: int) -> None:
    """Returns when the time that a client has is over."""
    [answer] = exchange(port, GET[:9])
    assert answer.status == 408


def trickle(wire: Wire, byte: bytes) -> None:
    """Sends byte after byte, for ever, until an answer comes."""
    for _ in range(10_000):
        if select.select([wire.socket], [], [], SHORT_S / 10)[0]:
            return
        wire.send(byte)
    raise AssertionError("never answered")


def test_a_connection_that_sends_nothing_is_closed_without_an_answer(port: int) -> None:
    assert exchange(port, b"") == []


def test_a_connection_that_sends_nothing_more_is_closed_after_its_answer(port: int) -> None:
    [answer] = exchange(port, GET)
    assert (answer.status, "connection" in answer.headers) == (200, False)


@pytest.mark.parametrize("start", [b"", b"\r\n", GET[:3], GET[:-2] + b"X-Note: ", b"GET /"])
def test_a_head_that_comes_byte_by_byte_is_cut_off(port: int, start: bytes) -> None:
    with talking(port) as wire:
        wire.send(start or GET[:1])
        trickle(wire, b"\n" if start == b"\r\n" else b"a")
        [answer] = wire.answers()
    assert answer.status in (400, 408)  # 400: the method became a wrong one
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("head", "byte"), [(b"Content-Length: 900\r\n\r\n", b" "), (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n")]
)
def test_a_body_that_comes_byte_by_byte_is_cut_off_and_counts_nothing(
    port: int, redis_client: redis.Redis, head: bytes, byte: bytes
) -> None:
    with talking(port) as wire:
        wire.send(POST + head)
        trickle(wire, byte)
        [answer] = wire.answers()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert msgspec.json.decode(answer.body)["type"] == "urn:turnstile:problem:too-slow"
    assert redis_client.hget(keys.ENTRIES, "accepted") is None


def test_a_slow_body_above_the_least_rate_arrives(processes: Processes, free_port: int, redis_client: redis.Redis) -> None:
    serve(
        processes, free_port, TURNSTILE_CLIENT_TIMEOUT_S="3"
    )  # long, so that a pause of the test itself is not taken for a slow client
    body = b"\n".join(ENTRY % number for number in range(3_000))
    head = POST.replace(b"application/json", b"application/x-ndjson") + b"Content-Length: %d\r\n\r\n" % len(body)
    with talking(free_port) as wire, talking(free_port) as clock:
        wire.send(head)
        clock.send(GET[:9])
        while len(body) > edge.MIN_RATE and not select.select([clock.socket], [], [], 0.3)[0]:
            wire.send(body[: edge.MIN_RATE])
            body = body[edge.MIN_RATE :]
        assert clock.answers()[0].status == 408
        wire.send(body)
        wire.until(b'"accepted":3000')
    assert redis_client.hget(keys.ENTRIES, "accepted") == b"3000"


def test_a_slow_handler_is_not_cut_off(port: int, redis_client: redis.Redis) -> None:
    redis_client.sadd(keys.QUEUES, keys.queue("default"))
    redis_client.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
    with talking(port) as wire:
        wire.send(PAUSE + b"\r\n{}")
        pass_the_limit(port)
        pass_the_limit(port)
        redis_client.execute_command("CLIENT", "UNPAUSE")
        [answer] = wire.answers()
    assert answer.status == 200


def test_a_silent_stream_is_not_cut_off(port: int, redis_client: redis.Redis) -> None:
    head = b"POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: one\r\nContent-Length: %d\r\n\r\n"
    [order] = exchange(port, head % len(ORDER) + ORDER)
    where = order.headers["location"].encode()
    with talking(port) as stream:
        stream.send(b"GET %b/events HTTP/1.1\r\nHost: localhost\r\n\r\n" % where)
        stream.until(b'"scheduled"')
        pass_the_limit(port)
        pass_the_limit(port)
        cancelled = exchange(port, b"POST %b/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n" % where)
        assert cancelled[0].status == 200
        stream.until(b'"cancelled"')
        assert stream.rest().endswith(b"\r\n0\r\n\r\n")


def test_a_client_that_does_not_read_its_answers_is_cut_off(port: int) -> None:
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    wire.connect(("127.0.0.1", port))
    wire.setblocking(False)
    watch = select.poll()
    watch.register(wire, 0)  # only errors and the end are told

    def is_cut_off() -> bool:
        try:
            wire.send(GET.replace(b"/livez", b"/openapi.json"))
        except BlockingIOError:
            pass  # it no longer reads either
        except ConnectionError:
            return True
        return bool(watch.poll(0))

    wait_for(is_cut_off, LIMIT_S, "the connection is reset")
    wire.close()
    assert exchange(port, GET)[0].status == 200
