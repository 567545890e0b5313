"""Commands to one worker over RQ's pub/sub channel, read without a thread: RQ's own, and `restart`.

A command that is sent while the worker is not connected is lost, as with RQ.
"""

import contextlib
import json
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis
from rq.command import PUBSUB_CHANNEL_TEMPLATE, send_command

from jobs import connections, log

MOMENT_S = 0.5
"""How long connecting, or the rest of a message, may take: the worker stands still meanwhile."""
AGAIN_AFTER_S = 1.0
PING_EVERY_S = 5.0
ANSWER_WITHIN_S = 10.0
"""Behind a server that vanished without a word a socket stays open for hours."""
logger = log.get("worker")


class Kind(StrEnum):
    """The commands. The first three are RQ's (rq 2.12.0 command.py)."""

    SHUTDOWN = "shutdown"
    KILL_HORSE = "kill-horse"
    STOP_JOB = "stop-job"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Command:
    """What a worker is told; `job_id` of the job to stop, empty for the other kinds."""

    kind: Kind
    job_id: str = ""

    @classmethod
    def parse(cls, data: bytes) -> "Command":
        """Reads what `rq.command.send_command` sends. Raises ValueError."""
        payload = json.loads(data)
        if not isinstance(payload, dict):
            raise ValueError("no JSON object")
        kind, job_id = Kind(str(payload.get("command"))), payload.get("job_id")
        if kind is not Kind.STOP_JOB:
            return cls(kind)
        if not isinstance(job_id, str) or not job_id:
            raise ValueError("the job's id is missing")
        return cls(kind, job_id)


def send_restart(client: redis.Redis, worker_name: str) -> None:
    """Asks the worker to stop as it does at SIGTERM, and to begin anew."""
    send_command(client, worker_name, Kind.RESTART)


class Commands:
    """The worker's end of its channel, on a connection of its own. No call raises because of Redis."""

    def __init__(self, client: redis.Redis, worker_name: str) -> None:
        pool = connections.tuned(client, retries=0).connection_pool
        options = pool.connection_kwargs
        options |= {name: MOMENT_S for name in ("socket_timeout", "socket_connect_timeout") if name in options}
        options["health_check_interval"] = 0  # redis-py pings at each call until it is answered, and for ever when it is not
        self._pubsub = redis.client.PubSub(pool)
        self._channel = PUBSUB_CHANNEL_TEMPLATE % worker_name
        self._away = False
        self._again_at = 0.0
        self._heard_at = 0.0
        self._pinged_at: float | None = None

    def fileno(self) -> int | None:
        """What is readable when a command may have come; another one after a reconnect, None while there is no connection."""
        connection = self._pubsub.connection
        sock = connection and connection._sock  # redis-py has no other way to wait for several connections
        return sock.fileno() if sock else None

    def read(self) -> list[Command]:
        """The commands that have come; call it when `fileno` is readable, and once a second, to connect again if need be."""
        found: list[Command] = []
        if self._away and time.monotonic() < self._again_at:
            return found
        for last in (self._away, True):  # a connection that broke is replaced at once, if it can be
            try:
                self._receive(found)
            except redis.exceptions.RedisError as error:
                self.close()
                if last:
                    if not self._away:
                        logger.warning("commands cannot be received, trying again", error=str(error))
                    self._away, self._again_at = True, time.monotonic() + AGAIN_AFTER_S
                    break
            else:
                self._away = False
                break
        return found

    def close(self) -> None:
        """Closes the connection."""
        with contextlib.suppress(redis.exceptions.RedisError):
            self._pubsub.reset()

    def forget(self) -> None:
        """In a process that was forked: closes its copy of the socket."""
        if self._pubsub.connection is not None:
            self._pubsub.connection.disconnect()

    def _receive(self, found: list[Command]) -> None:
        now = time.monotonic()
        if not self._pubsub.subscribed:
            self._pubsub.subscribe(self._channel)
            self._heard_at, self._pinged_at = now, None
        while self._pubsub.connection.can_read(timeout=0):  # what the parser holds makes no descriptor readable
            self._take(self._pubsub.get_message(timeout=MOMENT_S), found)
            self._heard_at, self._pinged_at = now, None
        if self._pinged_at is None and now - self._heard_at >= PING_EVERY_S:
            self._pubsub.ping()
            self._pinged_at = now
        elif self._pinged_at is not None and now - self._pinged_at > ANSWER_WITHIN_S:
            raise redis.exceptions.ConnectionError("a ping was not answered")

    def _take(self, message: dict[str, Any] | None, found: list[Command]) -> None:
        if message is None or message["type"] != "message":
            return
        try:
            found.append(Command.parse(message["data"]))
        except (ValueError, RecursionError) as error:
            logger.warning("command ignored", payload=message["data"][:200], error=str(error))
