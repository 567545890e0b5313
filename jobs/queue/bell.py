"""The bell of an idle worker: a BLPOP that is under way while the worker waits for other things as well.

Every script that pushes a job rings the bell of its queue. A worker that is rung and has no room passes the ring on, since
it has woken this worker instead of one that has.
"""

from collections.abc import Sequence

import redis

from jobs import keys
from jobs.queue.priorities import base

RINGS = 8
"""A bell holds no more rings: push.lua."""


class Bell:
    """One blocking call on a connection of its own."""

    def __init__(self, client: redis.Redis, queues: Sequence[str]) -> None:
        self._client = client
        self._bells = [keys.bell(name) for name in dict.fromkeys(map(base, queues))]
        self._connection: redis.Connection | None = None
        self._rung = self._bells[0]

    def listen(self) -> None:
        """Begins to listen, unless it does. Raises RedisError."""
        if self._connection is None:
            connection = self._client.connection_pool.get_connection()
            try:
                connection.send_command("BLPOP", *self._bells, 0)
            except BaseException:
                self._give_back(connection)
                raise
            self._connection = connection

    def fileno(self) -> int | None:
        """Readable when the bell has rung, or its connection is lost; None when nobody listens."""
        # redis-py offers no public way to wait for a connection beside others.
        return None if self._connection is None else self._connection._sock.fileno()

    def answer(self) -> None:
        """Takes the ring, once `fileno` is readable; nobody listens any more. Raises RedisError."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            rung = connection.read_response()
            self._rung = rung[0].decode() if rung else self._bells[0]
        except BaseException:
            self._give_back(connection)
            raise
        self._client.connection_pool.release(connection)

    def pass_on(self) -> None:
        """Rings for somebody else. Raises RedisError."""
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.lpush(self._rung, "1")
            pipeline.ltrim(self._rung, 0, RINGS - 1)
            pipeline.execute()

    def hang_up(self) -> None:
        """Nobody listens any more; a ring that comes at this instant is lost, and somebody's next look finds the job."""
        if self._connection is not None:
            self._give_back(self._connection)
            self._connection = None

    def forget(self) -> None:
        """In a process that was forked: closes its copy of the socket."""
        if self._connection is not None:
            self._connection.disconnect()  # which tells the server nothing: redis-py knows whose connection it is

    def _give_back(self, connection: redis.Connection) -> None:
        connection.disconnect()
        self._client.connection_pool.release(connection)
