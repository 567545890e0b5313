"""Redis clients from Settings: sync for jobs and RQ, async for the web.

`rediss://` is accepted with the self-signed certificate that hosted Redis services present
(docs/decisions/0004-tls.md); `?ssl_cert_reqs=required` in REDIS_URL turns verification on.
Pools are bounded and block for a moment instead of failing, since small plans allow 20 connections.
"""

import asyncio
import functools
import queue
import sys
import threading
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.connection import HiredisRespSerializer
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from jobs import embedded
from jobs.errors import JobInterrupted
from jobs.settings import Settings, current

SOCKET = {"socket_timeout": 10.0, "health_check_interval": 30}
TCP = {"socket_connect_timeout": 3.0, "socket_keepalive": True}
ASYNC_SOCKET = {"socket_timeout": 3.0}
"""No health check: on a unix socket redis-py 8.1 pings before its connection's first command, and while Redis loads connects anew
for each ping that is refused, for ever. It would find a dead connection no sooner than the command does."""
POOL_WAIT_S = 5.0
MAX_SYNC_CONNECTIONS = 4
MAX_ASYNC_CONNECTIONS = 10
PACKER = HiredisRespSerializer()

AWAY = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.ReadOnlyError)
"""What redis-py raises while Redis is away, restarting, loading or failing over: wait and try again."""

REFUSALS = ("OOM", "MISCONF", "READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "UNBLOCKED")
"""First words of the answers with which a running Redis refuses writes for the time being."""


def is_away(error: BaseException) -> bool:
    """Tells whether Redis cannot take the write now but may later: away, loading, read-only or full."""
    if isinstance(error, AWAY):
        return True
    # Redis 6.2 wraps what a script met: "Error running script (...): @user_script: 1: -OOM command not allowed".
    return isinstance(error, redis.exceptions.ResponseError) and (
        isinstance(error, redis.exceptions.OutOfMemoryError)
        or str(error).startswith(REFUSALS)
        or any(f" -{word}" in str(error) for word in REFUSALS)
    )


def redis_url(settings: Settings) -> str:
    """The URL that every process connects to: REDIS_URL, or the running embedded server's socket. Raises NoRedis."""
    url = settings.redis_url or embedded.running_url(settings.data_dir)
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme != "rediss" or "ssl_cert_reqs" in query:
        return url
    return urlunsplit(parts._replace(query=urlencode({**query, "ssl_cert_reqs": "none", "ssl_check_hostname": "false"})))


def shown_url(url: str) -> str:
    """The URL without user, password and options, for logs and messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def connect(url: str, *, retries: int = 1) -> redis.Redis:
    """A sync client. Scripts are safe to send twice (they carry fences and deterministic ids), so one retry is harmless."""
    return tuned(redis.Redis.from_url(url), retries=retries)


class _Pool(redis.BlockingConnectionPool):
    """redis-py's pool without its metrics, which cost more than the rest of a call, and fair to many threads on few connections.

    Lends no connection on which the answer to an interrupted job may still arrive: another one would take it for its own.
    """

    def reset(self) -> None:
        self._line = threading.Lock()
        super().reset()

    def get_connection(self, *_args: Any, **_options: Any) -> redis.Connection:
        self._checkpid()
        if not self._line.acquire(timeout=POOL_WAIT_S):
            raise redis.exceptions.ConnectionError("no connection has become free")
        try:
            connection = self.pool.get(timeout=self.timeout)
        except queue.Empty:
            raise redis.exceptions.ConnectionError("no connection has become free") from None
        finally:
            self._line.release()
        connection = connection or self.make_connection()
        try:
            self._make_ready(connection)
        except BaseException:
            self.release(connection)
            raise
        return connection

    def _make_ready(self, connection: redis.Connection) -> None:
        """Connected, with nothing to read on it: otherwise it was left in the middle, or the server has closed it."""
        connection.connect()
        try:
            ready = not connection.can_read()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError):
            ready = False
        if not ready:
            connection.disconnect()
            connection.connect()

    def release(self, connection: redis.Connection) -> None:
        self._checkpid()
        if connection.pid != self.pid:  # lent before a fork: another process's
            connection.disconnect()
            connection = None
        elif isinstance(sys.exc_info()[1], JobInterrupted):
            connection.disconnect()
        self.pool.put_nowait(connection)


def tuned(
    client: redis.Redis, *, retries: int = 1, max_connections: int = MAX_SYNC_CONNECTIONS, timeout_s: float | None = None
) -> redis.Redis:
    """The client's server and credentials with our bounds: few connections, short time-outs, few retries."""
    pool = client.connection_pool
    bounds = SOCKET if issubclass(pool.connection_class, redis.UnixDomainSocketConnection) else SOCKET | TCP
    if timeout_s is not None:
        bounds = {name: timeout_s if name.endswith("_timeout") else value for name, value in bounds.items()}
    options = {**pool.connection_kwargs, **bounds, "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries)}
    if pool.maint_notifications_enabled():  # redis-py 8.1 then lends connections on which an answer waits unread
        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    bounded = _Pool(connection_class=pool.connection_class, max_connections=max_connections, timeout=POOL_WAIT_S, **options)
    return redis.Redis(connection_pool=bounded)


def connect_async(url: str, *, max_connections: int = MAX_ASYNC_CONNECTIONS) -> redis.asyncio.Redis:
    """An async client that gives up soon: the web answers 503 and its client repeats with the same key.

    Only a broken connection is tried again once, as every pooled one is after a restart of Redis.
    """
    pool = _Line.from_url(
        url,
        max_connections=max_connections,
        timeout=POOL_WAIT_S,
        retry=AsyncRetry(ExponentialBackoff(cap=0.1, base=0.01), 1, supported_errors=(redis.exceptions.ConnectionError,)),
        **ASYNC_SOCKET,
    )
    pool.connection_class = type("Connection", (_Packing, pool.connection_class), {})
    return redis.asyncio.Redis(connection_pool=pool)


class _Line(redis.asyncio.BlockingConnectionPool):
    """redis-py's pool, but who has waited longest is served next: its own lets the latest overtake whom it has just woken,
    and of 64 that waited for 10 connections some waited ten times as long as most."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._free = asyncio.Semaphore(self.max_connections)

    async def get_connection(self, *_args: Any, **_options: Any) -> redis.asyncio.Connection:
        try:
            async with asyncio.timeout(self.timeout):
                await self._free.acquire()
        except TimeoutError:
            raise redis.exceptions.ConnectionError("no connection has become free") from None
        connection = self.get_available_connection()
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: redis.asyncio.Connection) -> None:
        await redis.asyncio.ConnectionPool.release(self, connection)  # past the lock of the one in between
        self._free.release()


class _Packing:
    """redis-py's async connections pack commands in Python, which for a thousand events takes longer than their script."""

    def pack_command(self, *args: Any) -> list[bytes]:
        packed: list[bytes] = PACKER.pack(*args)
        return packed


_shared: list[redis.Redis] = []


@functools.cache
def process_client() -> redis.Redis:
    """The sync client of this process, for tasks. redis-py's pool notices a fork by itself."""
    return _shared[0] if _shared else connect(redis_url(current()))


_loops: dict[asyncio.AbstractEventLoop, redis.asyncio.Redis] = {}


def loop_client() -> redis.asyncio.Redis:
    """The async client of the running event loop, for tasks and for programs that enqueue."""
    loop = asyncio.get_running_loop()
    for closed in [known for known in _loops if known.is_closed()]:
        del _loops[closed]
    if loop not in _loops:
        _loops[loop] = connect_async(redis_url(current()))
    return _loops[loop]


async def close_loop_client() -> None:
    """Closes the connections of the running event loop, which ends."""
    client = _loops.pop(asyncio.get_running_loop(), None)
    if client is not None:
        await client.connection_pool.disconnect()


def share(client: redis.Redis) -> None:
    """Makes `client` that of this process: a command that has one needs no second, and small plans count connections."""
    _shared[:] = [client]
    process_client.cache_clear()
