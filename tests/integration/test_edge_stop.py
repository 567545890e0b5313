"""The end of a web process: what is in work is answered, streams end whole, the rest is closed; one process or several."""

import contextlib
import os
import signal
import time
from pathlib import Path

import msgspec
import pytest
import redis
from processes import Process, Processes, wait_for
from wire import GET, LIMIT_S, PAUSE, entry, exchange, serve, talking

from jobs import keys

HEAD = PAUSE + b"Expect: 100-continue\r\n\r\n"
ORDER = b'{"lines":[{"sku":"a","quantity":1}],"countdown_s":900}'
STOP_LIMIT_S = 25.0


def closing(number: int) -> bytes:
    """A request after which the connection is closed; the next one may come to the other process."""
    return entry(number).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)


def listens(port: int) -> bool:
    with contextlib.suppress(ConnectionError), talking(port):
        return True
    return False


def children(process: Process) -> set[int]:
    """The processes that serve: the children that are not multiprocessing's tracker."""
    found = set()
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        for pid in (task / "children").read_text().split():
            with contextlib.suppress(FileNotFoundError):
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.add(int(pid))
    return found


@pytest.mark.parametrize("concurrency", ["1", "2"])
def test_a_stop_answers_what_is_in_work_ends_streams_and_closes_the_rest(
    processes: Processes, free_port: int, redis_client: redis.Redis, concurrency: str
) -> None:
    redis_client.sadd(keys.QUEUES, keys.queue("default"))
    process = serve(processes, free_port, WEB_CONCURRENCY=concurrency)
    order = (
        b"POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: one\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    )
    [made] = exchange(free_port, order % len(ORDER) + ORDER)
    with contextlib.ExitStack() as stack:
        stream, idle, half_head, half_body, work = (stack.enter_context(talking(free_port)) for _ in range(5))
        stream.send(b"GET %b/events HTTP/1.1\r\nHost: localhost\r\n\r\n" % made.headers["location"].encode())
        stream.until(b'"scheduled"')
        idle.send(GET)
        idle.until(b"alive")
        half_head.send(GET[:9])
        for wire in (half_body, work):
            wire.send(HEAD)
            wire.until(b"100 Continue\r\n\r\n")
            wire.received = b""
        half_body.send(b"{")
        redis_client.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
        work.send(b"{}")
        begun = time.monotonic()
        process.send(signal.SIGTERM)
        process.send(signal.SIGTERM)
        wait_for(lambda: not listens(free_port), LIMIT_S, "no connection is taken any more")
        process.send(signal.SIGTERM)
        redis_client.execute_command("CLIENT", "UNPAUSE")
        [answer] = work.answers()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert stream.rest().endswith(b"\r\n0\r\n\r\n")
        assert [answer.status for answer in half_body.answers()] == [408]
        assert half_head.answers() == []
        assert len(idle.answers()) == 1
        assert process.ended(STOP_LIMIT_S) == 0
    assert time.monotonic() - begun < STOP_LIMIT_S
    assert redis_client.get(keys.paused("default")) == b"1"
    assert "Traceback" not in process.output


def test_a_stop_while_the_process_starts_is_a_clean_one(processes: Processes, free_port: int) -> None:
    process = processes.start("python", "-m", "web", PORT=str(free_port))
    process.prints("web starts")
    process.send(signal.SIGTERM)
    assert process.ended(LIMIT_S) == 0


@pytest.fixture
def two(processes: Processes, free_port: int, redis_client: redis.Redis) -> Process:
    """Two serving processes under one parent."""
    process = serve(processes, free_port, WEB_CONCURRENCY="2")
    wait_for(lambda: len(children(process)) == 2, LIMIT_S, "two processes serve")
    return process


@pytest.mark.skipif(not Path("/proc").exists(), reason="children are found in /proc")
def test_a_killed_process_of_two_is_replaced(two: Process, free_port: int) -> None:
    victim = min(children(two))
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(children(two)) == 2 and victim not in children(two), LIMIT_S, "another one serves")
    assert [exchange(free_port, closing(number))[0].status for number in range(8)] == [202] * 8


def test_two_processes_answer_as_one_does(two: Process, free_port: int, redis_client: redis.Redis) -> None:
    answers = [exchange(free_port, closing(number % 5))[0] for number in range(20)]
    assert sum(msgspec.json.decode(answer.body)["accepted"] for answer in answers) == 5
    assert redis_client.hget(keys.ENTRIES, "accepted") == b"5"


def test_the_processes_end_with_their_parent(two: Process, free_port: int) -> None:
    two.send(signal.SIGKILL)
    wait_for(lambda: not listens(free_port), LIMIT_S, "the port is free again")
