"""A TCP front for Redis that can be told to delay, hold up, cut and swallow what passes, for a share of the connections.

`python proxy.py PORT REDIS_SOCKET CONTROL_SOCKET SEED`. It takes orders on the control socket; each replaces the one before.
"""

import asyncio
import collections
import dataclasses
import json
import os
import random
import socket
import sys
from enum import StrEnum
from pathlib import Path

from processes import ROOT, Process, Processes

CONTROL_LIMIT_S = 5.0
REQUESTS_CUT = 0.5
"""The share of cuts that meet the request: it is not done. The others meet its reply."""


class Mode(StrEnum):
    """What happens to the connections that are struck."""

    PASS = "pass"
    DELAY = "delay"
    """Everything arrives later."""
    HANG = "hang"
    """Nothing arrives until another order is given: neither side hears that the other one is away."""
    CUT = "cut"
    """The next request, or the reply to it, arrives in part, and the connection breaks."""
    SWALLOW = "swallow"
    """The next request arrives and is answered, and the connection breaks instead of the answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What is to be done to which share of the connections, those to come included."""

    mode: Mode = Mode.PASS
    share: float = 1.0
    delay_s: float = 0.0


class Proxy:
    """The process, and how it is told."""

    def __init__(self, processes: Processes, port: int, redis_socket: str, control: Path, seed: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._control = control
        path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        words = (str(port), redis_socket, str(control), str(seed))
        self._process: Process = processes.start("python", __file__, *words, PYTHONPATH=path)

    def ready(self) -> None:
        """Waits until it listens."""
        self._process.prints("listens")

    def tell(self, mode: Mode = Mode.PASS, *, share: float = 1.0, delay_s: float = 0.0) -> int:
        """Gives an order; returns how many connections the one before has struck."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(CONTROL_LIMIT_S)
            line.connect(str(self._control))
            line.sendall(json.dumps(dataclasses.asdict(Order(mode, share, delay_s))).encode() + b"\n")
            return int(line.makefile().readline())


class Front:
    """All connections, and the order that stands."""

    def __init__(self, redis_socket: str, seed: int) -> None:
        self.redis_socket = redis_socket
        self.chance = random.Random(seed)
        self.order = Order()
        self.links: set[Link] = set()
        self.struck = 0

    def obey(self, order: Order) -> int:
        """Replaces the order; what was held back goes on its way. Returns how many the last one has struck."""
        struck, self.struck, self.order = self.struck, 0, order
        for link in self.links:
            link.chosen = None
            for side in link.sides:
                side.flush()
        return struck


class Link:
    """A connection of a client and the one to Redis that it stands for."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.sides = (client, server) = (Side(self), Side(self))
        client.other, server.other = server, client
        self.chosen: bool | None = None
        self.asked = False
        front.links.add(self)

    def strikes(self) -> Mode:
        """What the standing order does to this connection."""
        order = self.front.order
        if self.chosen is None:
            self.chosen = order.mode is not Mode.PASS and self.front.chance.random() < order.share
            self.front.struck += self.chosen
            self.asked = False
        return order.mode if self.chosen else Mode.PASS

    def sever(self) -> None:
        """Breaks both connections, with what had not been sent."""
        self.front.links.discard(self)
        for side in self.sides:
            if side.transport is not None:
                side.transport.abort()


class Side(asyncio.Protocol):
    """One end of a link: what arrives here leaves at the other one."""

    other: "Side"

    def __init__(self, link: Link) -> None:
        self.link = link
        self.transport: asyncio.Transport | None = None
        self._held: collections.deque[tuple[float, bytes]] = collections.deque()
        """What is to be written to this end, and when."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self is self.link.sides[0]:
            self._opening = asyncio.ensure_future(self._open())
        elif self.link not in self.link.front.links:
            transport.abort()
        elif self.link.strikes() is not Mode.HANG:
            self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        self.link.sever()

    def data_received(self, data: bytes) -> None:
        link, chance = self.link, self.link.front.chance
        from_client = self is link.sides[0]
        match link.strikes():
            case Mode.CUT if not from_client or chance.random() < REQUESTS_CUT:
                self.other.write(data[: chance.randrange(len(data))])
                link.sever()
                return
            case Mode.SWALLOW if from_client:
                link.asked = True
            case Mode.SWALLOW if link.asked:
                link.sever()
                return
            case Mode.DELAY:
                self.other.hold(data, link.front.order.delay_s)
                return
            case Mode.HANG:
                self.other.hold(data, float("inf"))
                return
        self.other.write(data)

    def write(self, data: bytes) -> None:
        """Sends it, behind what is held back."""
        if self.transport is None or self._held:
            self._held.append((0.0, data))
        else:
            self.transport.write(data)

    def hold(self, data: bytes, delay_s: float) -> None:
        """Sends it later."""
        loop = asyncio.get_running_loop()
        due = loop.time() + delay_s
        self._held.append((due, data))
        if due != float("inf"):
            loop.call_at(due, self._send_until, due)

    def flush(self) -> None:
        """Sends all that was held back, now."""
        while self.transport is not None and self._held:
            self.transport.write(self._held.popleft()[1])

    def _send_until(self, due: float) -> None:
        while self.transport is not None and self._held and self._held[0][0] <= due:
            self.transport.write(self._held.popleft()[1])

    async def _open(self) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self.other, self.link.front.redis_socket)
        except OSError:  # Redis is away: the client sees its connection end
            self.link.sever()


async def main(port: int, redis_socket: str, control: str, seed: int) -> None:
    """Serves until it is killed."""
    front = Front(redis_socket, seed)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        given = json.loads(await reader.readline())
        writer.write(b"%d\n" % front.obey(Order(**{**given, "mode": Mode(given["mode"])})))
        writer.close()

    server = await asyncio.get_running_loop().create_server(lambda: Link(front).sides[0], "127.0.0.1", port)
    await asyncio.start_unix_server(take, control)
    print("listens", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
