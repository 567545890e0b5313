"""The processes that the harness torments: two webs, two workers of each kind, stock workers beside them, two schedulers.

Redis may be reached through a proxy, and every process has a wall clock of its own (skewed/sitecustomize.py). Nothing here starts
a process again by itself: whoever ends one starts it, as a platform does.
"""

import os
import random
import socket
import struct
from pathlib import Path

import httpx
import redis
from carriers import Carrier
from processes import ROOT, Process, Processes, wait_for
from proxy import Proxy
from servers import Server
from system import QUICK

from jobs import keys, procfile

TWICE = 2
START_LIMIT_S = 120.0
PORTS = range(12_000, 30_000)
"""Below those that the kernel gives to connections: a web must find its port free when it is started again."""
STOCK = {
    "stock-steps": ("picking", "packing", "delivery", "notify"),
    "stock-rest": ("default", "entries"),
}
FLEET = QUICK | {
    "TURNSTILE_STEP_MAX_ATTEMPTS": "50",
    "TURNSTILE_SAMPLES": "1",
    # A web whose clock is behind must not take the entries of the present for some of the future.
    "TURNSTILE_ENTRY_MAX_AHEAD_S": "600",
}


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Fleet:
    """All processes by name: `picker-1` has the role `picker`. `tree` is a copy of the product to run instead of this one."""

    def __init__(
        self,
        server: Server,
        processes: Processes,
        carrier: Carrier,
        *,
        proxied: bool,
        stock: bool = True,
        tree: Path | None = None,
        seed: int = 0,
        **environ: str,
    ) -> None:
        self.server, self.carrier = server, carrier
        self.direct_url = server.url
        self.proxy: Proxy | None = None
        if proxied:
            redis_socket = server.url.removeprefix("unix://")
            self.proxy = Proxy(processes, free_port(), redis_socket, server.folder / "control", seed)
        self.redis_url = self.proxy.url if self.proxy else self.direct_url
        processes.tree = tree or ROOT
        self._processes = processes
        path = (processes.tree, ROOT / "tests", ROOT / "tests" / "chaos" / "skewed")
        own = {"REDIS_URL": self.redis_url, "CARRIER_URL": carrier.url, "PYTHONPATH": os.pathsep.join(map(str, path))}
        self._environ = {**own, **FLEET, **environ}
        self.commands: dict[str, list[str]] = {}
        for role, line in procfile.parse((processes.tree / "Procfile").read_text()).items():
            for number in range(TWICE):
                self.commands[f"{role}-{number + 1}"] = line.split()
        unmodified = ("env", "RQ_CONFIG=jobs.rq_config", "rq", "worker", "-w", "rq.Worker", "-S", "json")
        self.commands |= {name: [*unmodified, *queues] for name, queues in STOCK.items() if stock}
        self._ports = {name: free_port() for name in self.commands if self.role(name) == "web"}
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports.values()]
        self._running: dict[str, Process] = {}

    @property
    def names(self) -> list[str]:
        """All processes, started or not."""
        return list(self.commands)

    def role(self, name: str) -> str:
        """What a process does."""
        return name.partition("-")[0]

    def process(self, name: str) -> Process:
        """The one that was started last under the name."""
        return self._running[name]

    def start(self, *names: str) -> None:
        """Starts the named processes, or all, and waits for nothing. One that runs is not started beside itself."""
        for name in names or self.names:
            if name in self._running and self._running[name].runs:
                raise AssertionError(f"{name} runs already")
            if not self._clock(name).exists():
                self._clock(name).write_bytes(struct.pack("d", 0.0))
            own = {"CHAOS_CLOCK": str(self._clock(name))}
            if name in self._ports:
                own["PORT"] = str(self._ports[name])
            self._running[name] = self._processes.start(*self.commands[name], **self._environ, **own)

    def ended(self) -> list[str]:
        """The processes that have ended, and not been started again."""
        return [name for name, process in self._running.items() if not process.runs]

    def ready(self) -> None:
        """Waits until the webs answer, a scheduler leads, and every worker that runs has enrolled."""
        if self.proxy:
            self.proxy.ready()
        client = redis.Redis.from_url(self.direct_url)
        try:
            urls = [f"http://127.0.0.1:{port}" for name, port in self._ports.items() if name in self._running]
            wait_for(lambda: all(map(_answers, urls)), START_LIMIT_S, "the webs answer")
            wait_for(lambda: client.exists(keys.SCHEDULER_LOCK), START_LIMIT_S, "a scheduler leads")
            n_workers = sum("rq" in self.commands[name] for name in self._running)
            wait_for(lambda: client.scard(keys.WORKERS) >= n_workers, START_LIMIT_S, f"{n_workers} workers have enrolled")
        finally:
            client.close()

    def set_clock(self, name: str, ahead_s: float) -> None:
        """Sets a process's wall clock, this far ahead of the real one, and those of its successors."""
        with self._clock(name).open("r+b") as file:
            file.write(struct.pack("d", ahead_s))

    def _clock(self, name: str) -> Path:
        return self.server.folder / f"clock-{name}"


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False
