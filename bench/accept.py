"""How much a running system accepts over HTTP and works off: `python bench/accept.py [--url http://127.0.0.1:8000]`.

A raw asyncio client with 64 keep-alive connections, so that the client is not what is measured. Absolute figures
depend on the machine and its noise; compare only runs on the same machine.
"""

import argparse
import asyncio
import json
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from server import about

CONNECTIONS = 64
LINES = 10_000
PATIENCE_S = 120.0
Request = tuple[str, bytes, str]


def entry() -> Request:
    """A single entry."""
    return "/v1/entries", json.dumps({"gate": "bench", "event_id": uuid.uuid4().hex}).encode(), "application/json"


def lines() -> Request:
    """A full NDJSON body."""
    body = "\n".join(json.dumps({"gate": "bench", "event_id": uuid.uuid4().hex}) for _ in range(LINES))
    return "/v1/entries", body.encode(), "application/x-ndjson"


def order() -> Request:
    """An order of five lines."""
    rows = [{"sku": f"bench-{number}", "quantity": 1, "unit_price": 2.55} for number in range(5)]
    return "/v1/orders", json.dumps({"country": "United Kingdom", "lines": rows}).encode(), "application/json"


class Target:
    """The system under load."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80

    async def exchange(self, streams: Any, method: str, request: Request) -> tuple[int, bytes]:
        """One request on a keep-alive connection: status and body."""
        reader, writer = streams
        path, body, media_type = request
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: {media_type}\r\n"
            f"Idempotency-Key: {uuid.uuid4().hex}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(int(line.split(b":")[1]) for line in answer.split(b"\r\n") if line.startswith(b"content-length"))
        return int(answer[9:12]), await reader.readexactly(length)

    async def get(self, path: str) -> Any:
        """The JSON at a path."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        _status, body = await self.exchange((reader, writer), "GET", (path, b"", "application/json"))
        writer.close()
        return json.loads(body)

    async def load(self, make: Callable[[], Request], total: int, connections: int) -> float:
        """Sends `total` requests; returns the requests accepted a second."""
        requests = [make() for _ in range(total)]

        async def drive() -> int:
            streams = await asyncio.open_connection(self.host, self.port)
            accepted = 0
            while requests:
                status, _body = await self.exchange(streams, "POST", requests.pop())
                accepted += status == 202
            streams[1].close()
            return accepted

        started = time.perf_counter()
        accepted = sum(await asyncio.gather(*(drive() for _ in range(connections))))
        if accepted != total:
            sys.exit(f"only {accepted} of {total} requests were accepted")
        return total / (time.perf_counter() - started)

    async def until_idle(self) -> None:
        """Waits until nothing is pending, ready or running."""
        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            pending = (await self.get("/v1/footfall/summary"))["pending"]
            queues = (await self.get("/v1/queues"))["queues"]
            if not pending and not any(queue["depth"] + queue["started"] + queue["scheduled"] for queue in queues):
                return
            await asyncio.sleep(0.1)
        sys.exit(f"not idle after {PATIENCE_S:g} s")


async def run(target: Target, n_entries: int, n_bodies: int, n_orders: int) -> None:
    """Loads the system with each kind in turn and prints a line for each."""
    api = (await target.get("/openapi.json"))["info"]
    print(about(f"{api['title']}, API version {api['version']}"))
    for name, make, total, each, connections in (
        ("entries, single requests", entry, n_entries, 1, CONNECTIONS),
        (f"entries, NDJSON of {LINES:,}", lines, n_bodies, LINES, 2),
        ("orders of 5 lines", order, n_orders, 1, CONNECTIONS),
    ):
        await target.until_idle()
        started = time.perf_counter()
        rate = await target.load(make, total, connections)
        await target.until_idle()
        done = total * each / (time.perf_counter() - started)
        print(f"{name:28} accepted {rate * each:10,.0f}/s   accepted and worked off {done:10,.0f}/s")


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--bodies", type=int, default=10)
    parser.add_argument("--orders", type=int, default=2_000)
    options = parser.parse_args()
    asyncio.run(run(Target(options.url), options.entries, options.bodies, options.orders))


if __name__ == "__main__":
    main()
