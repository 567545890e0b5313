"""The bell of an idle worker: a BLPOP that is under way while the worker waits for other things, with a claim behind it.

Every script that pushes a job rings the bell of its queue. The claim lies ready on the server, which runs it the moment the bell
has rung: a job that comes to an idle worker is in its hands after half a round trip.
"""

from collections.abc import Sequence
from typing import Any

import redis

from jobs.queue.claiming import bells
from jobs.queue.script import Invocation


class Bell:
    """One blocking call on a connection of its own."""

    def __init__(self, client: redis.Redis, queues: Sequence[str]) -> None:
        self._client = client
        self._bells = bells(queues)
        self._connection: redis.Connection | None = None

    @property
    def listens(self) -> bool:
        """Whether a claim lies ready."""
        return self._connection is not None

    def listen(self, claim: Invocation) -> None:
        """Begins to listen. Raises RedisError."""
        script, places, args = claim
        connection = self._client.connection_pool.get_connection()
        try:
            commands = [("BLPOP", *self._bells, 0), ("EVALSHA", script.sha, len(places), *places, *args)]
            connection.send_packed_command(connection.pack_commands(commands))
        except BaseException:
            self._give_back(connection)
            raise
        self._connection = connection

    def fileno(self) -> int | None:
        """Readable when the bell has rung, or its connection is lost; None when nobody listens."""
        # redis-py offers no public way to wait for a connection beside others.
        return None if self._connection is None else self._connection._sock.fileno()

    def answer(self) -> Any:
        """What the claim answered, also an error, once `fileno` is readable; nobody listens any more. Raises RedisError."""
        connection, self._connection = self._connection, None
        if connection is None:
            return None
        try:
            connection.read_response()
            try:
                claimed = connection.read_response()
            except redis.exceptions.ResponseError as error:
                claimed = error
        except BaseException:
            self._give_back(connection)
            raise
        self._client.connection_pool.release(connection)
        return claimed

    def hang_up(self) -> None:
        """Nobody listens any more. The claim may have been run: whoever hangs up looks for what it took."""
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
