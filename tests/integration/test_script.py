"""A script's exchange with Redis that is interrupted in the middle, as a time limit does."""

from typing import Any

import pytest
import redis

from jobs import connections
from jobs.errors import JobStopped
from jobs.queue.script import _execute

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
