"""Exchanges of scripts with Redis: many in one round trip, and what is interrupted or breaks in the middle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from command_counts import commands_of
from servers import Server

from jobs import connections
from jobs.errors import JobStopped
from jobs.queue.script import Script, _execute, exchange

SLOW = "local last = redis.call('INCR', 'n') for i = 1, 20000000 do last = last + 0 end return 'late'"


def test_the_answer_of_an_interrupted_exchange_is_nobody_elses(redis_client: redis.Redis) -> None:
    pool = redis_client.connection_pool
    connection = pool.get_connection()
    send = connection.send_packed_command

    def interrupted(*args: Any, **options: Any) -> None:
        connection.send_packed_command = send
        send(*args, **options)
        raise JobStopped

    connection.send_packed_command = interrupted
    pool.release(connection)
    with pytest.raises(JobStopped):
        _execute(redis_client, "EVAL", SLOW, 0)
    assert redis_client.get("nothing") is None


def test_a_pooled_connection_with_an_unread_answer_is_not_used_again_on_tcp_either() -> None:
    with connections.connect("redis://127.0.0.1:1") as client:
        assert not client.connection_pool.maint_notifications_enabled(), "redis-py then looks at no connection that it lends"


def test_an_error_that_redis_answers_costs_no_connection(redis_client: redis.Redis) -> None:
    before = redis_client.client_id()
    for _ in range(3):
        with pytest.raises(redis.exceptions.ResponseError):
            _execute(redis_client, "EVAL", "return redis.call('NOSUCH')", 0)
    assert redis_client.client_id() == before


# --- many in one round trip --------------------------------------------------------------------------

COUNT = "return {ARGV[1], redis.call('INCR', KEYS[1])}"
FAIL = "return redis.call('INCR', KEYS[1], 'x')"
Write = Callable[[str], Script]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(source: str) -> Script:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.lua"
        path.write_text(source)
        return Script(path)

    return written


def test_scripts_are_answered_in_their_order_each_for_itself(redis_client: redis.Redis, write: Write) -> None:
    count, fail = write(COUNT), write(FAIL)
    for _ in range(2):
        redis_client.delete("n")
        first, error, last = exchange(redis_client, [(count, ["n"], ["a"]), (fail, ["n"], []), (count, ["n"], ["b"])])
        assert (first, last) == ([b"a", 1], [b"b", 2])
        assert isinstance(error, redis.exceptions.ResponseError)
    assert exchange(redis_client, []) == []


def test_scripts_that_the_server_lacks_are_loaded_and_run_once_as_the_others_are(redis_client: redis.Redis, write: Write) -> None:
    known, unknown = write(COUNT), write(COUNT + " -- of another name")
    redis_client.script_load(known.source.decode())
    calls = [(unknown, ["n"], ["a"]), (known, ["n"], ["b"]), (unknown, ["n"], ["c"])]
    assert exchange(redis_client, calls) == [[b"a", 2], [b"b", 1], [b"c", 3]]
    before = commands_of(redis_client)
    assert exchange(redis_client, calls) == [[b"a", 4], [b"b", 5], [b"c", 6]]
    assert commands_of(redis_client)["evalsha"] - before["evalsha"] == 3


def test_a_connection_that_broke_before_costs_no_exchange(
    redis_url: str, redis_client: redis.Redis, own_server: Server, write: Write
) -> None:
    count = write(COUNT)
    redis_client.delete("n")
    assert exchange(redis_client, [(count, ["n"], ["a"])]) == [[b"a", 1]]
    mine = redis_client.client_id()
    with connections.connect(own_server.url) as elsewhere:
        exchange(elsewhere, [(count, ["n"], ["a"])])
        own_server.kill()
        own_server.start()
        assert exchange(elsewhere, [(count, ["n"], ["b"])]) == [[b"b", 2]], "Redis was restarted, and the script was loaded again"
    with redis.Redis.from_url(redis_url) as killer:
        killer.client_kill_filter(_id=str(mine))
    assert exchange(redis_client, [(count, ["n"], ["b"])]) == [[b"b", 2]]
    assert redis_client.client_id() != mine


def test_an_exchange_that_breaks_in_the_middle_is_not_sent_again(redis_url: str, redis_client: redis.Redis, write: Write) -> None:
    slow, count = write(SLOW), write(COUNT)
    with connections.connect(redis_url) as client:
        exchange(client, [(slow, [], []), (count, ["m"], ["a"])])
        redis_client.delete("n", "m")
        connection = client.connection_pool.get_connection()
        connection.disconnect()
        patience_s, connection.socket_timeout = connection.socket_timeout, 0.05
        client.connection_pool.release(connection)
        with pytest.raises(redis.exceptions.TimeoutError):
            exchange(client, [(slow, [], []), (count, ["m"], ["a"])])
        connection.socket_timeout = patience_s
        assert (redis_client.get("n"), redis_client.get("m")) == (b"1", b"1")
        assert exchange(client, [(count, ["m"], ["b"])]) == [[b"b", 2]], "and its answers are nobody else's"
