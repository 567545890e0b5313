"""RQ's commands to a worker, read without a thread: each one arrives, rubbish does not matter, Redis may go and come."""

import json
import os
import select
import signal
import time
from collections.abc import Iterator

import pytest
import redis
from processes import wait_for
from rq.command import send_kill_horse_command, send_shutdown_command, send_stop_job_command
from servers import Server

from jobs import connections, keys
from jobs.queue import remote
from jobs.queue.remote import Command, Commands, Kind, send_restart

LIMIT_S = 10
CHANNEL = "rq:pubsub:w1"


@pytest.fixture
def commands(redis_client: redis.Redis) -> Iterator[Commands]:
    listening = Commands(redis_client, "w1")
    assert listening.read() == []
    heard(redis_client)
    yield listening
    listening.close()


def heard(client: redis.Redis) -> None:
    wait_for(lambda: client.pubsub_numsub(CHANNEL)[0][1] == 1, LIMIT_S, "the worker listens")


def arrived(commands: Commands, n: int = 1) -> list[Command]:
    """Waits on the descriptor as a worker does, until n commands have come."""
    found: list[Command] = []
    deadline = time.monotonic() + LIMIT_S
    while len(found) < n and time.monotonic() < deadline:
        descriptor = commands.fileno()
        assert descriptor is not None
        if select.select([descriptor], [], [], 1)[0]:
            found += commands.read()
    return found


def test_each_of_rqs_commands_and_ours_arrives(redis_client: redis.Redis, commands: Commands) -> None:
    redis_client.hset(keys.job("j1"), mapping={"worker_name": "w1", "data": "", "created_at": "2026-11-21T03:04:05.123456Z"})
    send_shutdown_command(redis_client, "w1")
    send_kill_horse_command(redis_client, "w1")
    send_stop_job_command(redis_client, "j1")
    send_restart(redis_client, "w1")
    send_shutdown_command(redis_client, "somebody-else")
    assert arrived(commands, 4) == [
        Command(Kind.SHUTDOWN),
        Command(Kind.KILL_HORSE),
        Command(Kind.STOP_JOB, "j1"),
        Command(Kind.RESTART),
    ]
    assert commands.read() == []


def test_reading_when_nothing_has_come_does_not_wait(commands: Commands) -> None:
    before = time.monotonic()
    assert [commands.read() for _ in range(20)] == [[]] * 20
    assert time.monotonic() - before < 1


def test_rubbish_is_ignored_and_what_follows_is_not(redis_client: redis.Redis, commands: Commands) -> None:
    for payload in ("", "{", "[]", "null", '{"command": "dance"}', '{"command": "stop-job"}', b"\xff", "[" * 100_000):
        redis_client.publish(CHANNEL, payload)
    redis_client.publish(CHANNEL, json.dumps({"command": "stop-job", "job_id": ["j1"]}))
    redis_client.publish(CHANNEL, json.dumps({"command": "shutdown", "more": 1}))
    assert arrived(commands) == [Command(Kind.SHUTDOWN)]


def test_a_command_beside_the_answer_to_a_ping_is_not_left_lying(
    redis_client: redis.Redis, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PING_EVERY_S", 0.0)
    for number in range(50):
        commands.read()  # pings
        send_restart(redis_client, "w1")
        assert arrived(commands) == [Command(Kind.RESTART)], number


def test_a_connection_that_is_cut_is_replaced_in_the_same_call(redis_client: redis.Redis, commands: Commands) -> None:
    redis_client.client_kill_filter(_type="pubsub")
    wait_for(lambda: commands.read() == [] and commands.fileno() is not None, LIMIT_S, "it is connected")
    heard(redis_client)
    send_restart(redis_client, "w1")
    assert arrived(commands) == [Command(Kind.RESTART)]


def test_a_server_that_answers_no_ping_is_given_up_and_found_again(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(remote, "ANSWER_WITHIN_S", 0.3)
    client = connections.connect(own_server.url)
    server_id = client.info("server")["process_id"]
    commands = Commands(client, "w1")
    assert commands.read() == []
    heard(client)
    os.kill(server_id, signal.SIGSTOP)
    try:
        wait_for(lambda: commands.read() == [] and commands.fileno() is None, LIMIT_S, "the server is given up")
        before = time.monotonic()
        assert [commands.read() for _ in range(5)] == [[]] * 5
        assert time.monotonic() - before < 3 * remote.MOMENT_S
    finally:
        os.kill(server_id, signal.SIGCONT)
    wait_for(lambda: commands.read() == [] and commands.fileno() is not None, LIMIT_S, "it is found again")
    heard(client)
    send_restart(client, "w1")
    assert arrived(commands) == [Command(Kind.RESTART)]
    assert commands.read() == []
    commands.close()


def test_redis_may_be_away_at_the_start_and_in_between_and_no_call_raises_or_waits(own_server: Server) -> None:
    own_server.kill()
    commands = Commands(connections.connect(own_server.url), "w1")
    for _outage in range(2):
        before = time.monotonic()
        assert [commands.read() for _ in range(20)] == [[]] * 20
        assert commands.fileno() is None
        assert time.monotonic() - before < 2
        own_server.start()
        client = connections.connect(own_server.url)
        wait_for(lambda: commands.read() == [] and commands.fileno() is not None, LIMIT_S, "it is connected again")
        heard(client)
        send_restart(client, "w1")
        assert arrived(commands) == [Command(Kind.RESTART)]
        own_server.kill()
        client.close()
    commands.close()
    assert commands.fileno() is None
