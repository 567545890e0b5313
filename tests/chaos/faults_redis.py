"""What is done to Redis: killed, stopped, slow, full, read-only, without disk, its clients cut off, its scripts forgotten."""

import asyncio
import os
import random
import resource
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import redis
from faults import Kind, repeating
from fleet import Fleet
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from servers import START_LIMIT_S, Server

POLL_S = 0.02
AGAIN_S = 0.3
ROOM = 8_192
"""Bytes that a full disk may still take."""
STUTTER_S = (0.03, 0.003)
"""A slow Redis stands still and runs in turn."""
NOWHERE = ("127.0.0.1", "9")
"""A primary that is not there: its replica refuses writes and keeps what it has."""


def its(fleet: Fleet) -> list[str]:
    """There is one."""
    return ["redis"]


def admin(fleet: Fleet) -> Redis:
    """A client past the proxy; what it says may be said twice."""
    return Redis.from_url(fleet.direct_url, socket_timeout=10, retry=Retry(ConstantBackoff(0.1), 20))


async def back(server: Server) -> None:
    """Waits until the server answers, and starts it whenever it has ended."""
    deadline = time.monotonic() + START_LIMIT_S
    while not (server.runs and await asyncio.to_thread(server.answers)):
        if not server.runs:
            server.launch()
        if time.monotonic() > deadline:
            raise AssertionError(
                f"the server is not back within {START_LIMIT_S:g} s:\n{(server.folder / 'log').read_text()[-2000:]}"
            )
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def killed(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """SIGKILL; what it has answered is on its disk."""
    fleet.server.kill()
    try:
        yield ""
    finally:
        await back(fleet.server)


@asynccontextmanager
async def stopped(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """SIGSTOP: connections are accepted, and nothing is answered."""
    fleet.server.send(signal.SIGSTOP)
    try:
        yield ""
    finally:
        fleet.server.send(signal.SIGCONT)


@asynccontextmanager
async def slow(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """Every answer takes a while."""

    async def stutter() -> None:
        fleet.server.send(signal.SIGSTOP)
        await asyncio.sleep(STUTTER_S[0])
        fleet.server.send(signal.SIGCONT)

    async with repeating(stutter, STUTTER_S[1]):
        yield ""


@asynccontextmanager
async def paused(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """Writes, or all commands, wait; the connections stay. The server itself ends it: it would not hear us before."""
    pause_s, what = chance.uniform(0.5, 5), chance.choice(("WRITE", "ALL"))
    async with admin(fleet) as client:
        await client.execute_command("CLIENT PAUSE", int(pause_s * 1000), what)
    until = time.monotonic() + pause_s
    try:
        yield f"{what}, {pause_s:.1f} s"
    finally:
        await asyncio.sleep(max(0.0, until - time.monotonic()))


@asynccontextmanager
async def full(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """No memory: every command that may need some is refused."""
    async with admin(fleet) as client:
        await client.config_set("maxmemory", "1mb")
        try:
            yield ""
        finally:
            await client.config_set("maxmemory", "0")


@asynccontextmanager
async def read_only(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """A replica, as after a failover to somewhere else."""
    async with admin(fleet) as client:
        await client.execute_command("REPLICAOF", *NOWHERE)
        try:
            yield ""
        finally:
            await client.execute_command("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def cut_off(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """The connections of all clients are closed, again and again."""
    async with admin(fleet) as client, repeating(lambda: client.execute_command("CLIENT KILL", "TYPE", "normal"), AGAIN_S):
        yield ""


@asynccontextmanager
async def forgetful(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """The scripts are forgotten, again and again."""
    async with admin(fleet) as client, repeating(client.script_flush, AGAIN_S):
        yield ""


@asynccontextmanager
async def disk_full(fleet: Fleet, target: str, chance: random.Random) -> AsyncIterator[str]:
    """The append-only file takes some bytes more and no others: under `always` the server ends itself, else it refuses writes."""
    room = chance.randrange(ROOM)
    _limit_files(fleet.server, _aof_bytes(fleet.server) + room)
    try:
        yield f"{room} bytes left"
    finally:
        with suppress(ProcessLookupError):
            _limit_files(fleet.server, resource.RLIM_INFINITY)
        await back(fleet.server)
        async with admin(fleet) as client:  # under `everysec` it takes writes again once its next one has succeeded
            await _takes_writes(client)


def _limit_files(server: Server, n_bytes: int) -> None:
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))


def _aof_bytes(server: Server) -> int:
    files = (server.folder / "appendonlydir").glob("*.incr.aof")
    return max(files, key=os.path.getmtime).stat().st_size


async def _takes_writes(client: Redis) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            await client.delete("chaos:nothing")
            return
        except redis.exceptions.ResponseError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_S)


KINDS = (
    Kind("redis-kill", 6, its, (0.0, 3.0), killed),
    Kind("redis-stop", 2, its, (0.5, 6.0), stopped),
    Kind("redis-slow", 2, its, (1.0, 4.0), slow),
    Kind("redis-pause", 2, its, (0.0, 0.0), paused),
    Kind("redis-full", 3, its, (0.5, 5.0), full),
    Kind("redis-read-only", 3, its, (0.5, 5.0), read_only),
    Kind("client-kill", 3, its, (0.0, 2.0), cut_off),
    Kind("script-flush", 3, its, (0.0, 2.0), forgetful),
    Kind("disk-full", 2, its, (0.5, 4.0), disk_full),
)
