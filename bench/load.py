"""A load client in a process of its own: `python bench/load.py URL CONNECTIONS SECONDS singles|lines [N]`.

asyncio protocols that write ready-made bytes and look only for the status, so that the client takes little from the
server beside it. Prints JSON: answers by status, seconds, events, and the latencies' percentiles in ms.
"""

import asyncio
import itertools
import json
import os
import sys
import time
from collections import Counter
from functools import partial
from urllib.parse import urlsplit

import uvloop

SINGLE = b'{"gate":"bench","event_id":"%s"}'
_run = os.urandom(6).hex().encode()
_number = itertools.count()


def event() -> bytes:
    """An event that was never sent before."""
    return SINGLE % (b"%s-%010d-aaaaaaaa" % (_run, next(_number)))


def request(target: str, host: str, n: int) -> bytes:
    """The bytes of a request with `n` events; one is a single entry."""
    body, kind = (event(), "json") if n == 1 else (b"\n".join(event() for _ in range(n)), "x-ndjson")
    head = f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last one is in."""

    def __init__(self, target: str, host: str, n: int, until: float) -> None:
        self._target, self._host, self._n, self._until = target, host, n, until
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if time.perf_counter() >= self._until:
            self._transport.close()
            return
        data = request(self._target, self._host, self._n)
        self._sent = time.perf_counter()
        self._transport.write(data)  # type: ignore[attr-defined]  # a TCP transport

    def data_received(self, data: bytes) -> None:
        """The head and the body, whose length the head says."""
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        self.latencies.append(time.perf_counter() - self._sent)
        self.statuses[int(head[9:12])] += 1
        self._answer = b""
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        """Ends."""
        self.done.set_result(None)


def _same(client: Client) -> Client:
    return client


async def main() -> None:
    """Loads and reports."""
    url, connections, seconds, kind, *size = sys.argv[1:]
    parts, n = urlsplit(url), int(size[0]) if size else 1
    until = time.perf_counter() + float(seconds)
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    host = f"{parts.hostname}:{parts.port}"
    clients = [Client(parts.path, host, n if kind == "lines" else 1, until) for _ in range(int(connections))]
    for client in clients:
        await loop.create_connection(partial(_same, client), parts.hostname or "", parts.port or 80)
    await asyncio.gather(*(client.done for client in clients))
    took = time.perf_counter() - began
    latencies = sorted(latency for client in clients for latency in client.latencies)
    statuses: Counter[int] = sum((client.statuses for client in clients), Counter())
    print(
        json.dumps(
            {
                "statuses": statuses,
                "seconds": took,
                "events": statuses[202] * n,
                "p50": latencies[len(latencies) // 2] * 1000,
                "p99": latencies[int(len(latencies) * 0.99)] * 1000,
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main())
