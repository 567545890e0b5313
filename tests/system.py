"""A whole system for the end-to-end tests: the Procfile's processes, each killed and started at will, and a patient client."""

import signal
import time
from typing import Any

import httpx
import redis
from carriers import Carrier
from processes import ROOT, Process, Processes, wait_for
from servers import Server

from jobs import procfile

PATIENCE_S = 60.0
STOP_LIMIT_S = 30.0
QUICK = {
    "TURNSTILE_LEASE_S": "2",
    "TURNSTILE_RECONCILE_AFTER_S": "2",
    "TURNSTILE_BACKOFF_BASE_S": "0.1",
    "TURNSTILE_BACKOFF_CAP_S": "1",
    "TURNSTILE_CARRIER_TIMEOUT_S": "2",
}
"""Leases, delays and time-outs short enough for a test."""
ENDED = ("delivered", "rejected", "cancelled", "dead")


class System:
    """The Procfile's processes and whatever else a test adds, on a Redis of their own."""

    def __init__(self, server: Server, processes: Processes, carrier: Carrier, port: int, **environ: str) -> None:
        self.server = server
        self.carrier = carrier
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, timeout=10, trust_env=False)
        self.redis = redis.Redis.from_url(server.url)
        self._processes = processes
        own = {"REDIS_URL": server.url, "PORT": str(port), "CARRIER_URL": carrier.url}
        self._environ = {**own, **QUICK, **environ}
        lines = procfile.parse((ROOT / "Procfile").read_text())
        self.commands = {name: line.split() for name, line in lines.items()}
        self.running: dict[str, Process] = {}

    def add(self, name: str, *command: str) -> None:
        """Names one more process, to be started with the others."""
        self.commands[name] = list(command)

    def start(self, *names: str) -> None:
        """Starts the named processes, or all."""
        for name in names or tuple(self.commands):
            self.running[name] = self._processes.start(*self.commands[name], **self._environ)

    def kill(self, name: str) -> None:
        """SIGKILL; the platform, which the test plays, starts it again."""
        if name == "redis":
            self.server.kill()
            self.server.start()
            return
        self.running[name].kill()
        self.start(name)

    def stop(self, name: str) -> int:
        """SIGTERM, once the process is up, which a worker says; returns the exit code."""
        if self.commands[name][0] in ("rq", "env"):
            self.running[name].prints("started")
        self.running[name].send(signal.SIGTERM)
        return self.running[name].ended(STOP_LIMIT_S)

    def close(self) -> None:
        """Ends everything."""
        self._processes.end()
        self.http.close()
        self.redis.close()
        self.server.remove()

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Asks again, with the same keys, until there is an answer that is none of trouble's."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = self.http.request(method, path, **options)
                if answer.status_code < 500:
                    return answer
                last = answer.text
            except httpx.TransportError as error:
                last = repr(error)
            assert time.monotonic() < deadline, f"{method} {path}: no answer, the last was {last}"
            time.sleep(0.02)

    def order(self, key: str, sku: str = "85123A", quantity: int = 6, **more: Any) -> str:
        """Places an order; returns its id."""
        body = {"reference": key, "country": "United Kingdom", "lines": [{"sku": sku, "quantity": quantity}], **more}
        answer = self.ask("POST", "/v1/orders", json=body, headers={"Idempotency-Key": key})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def look(self, order_id: str) -> dict[str, Any]:
        """The order as the API shows it."""
        found: dict[str, Any] = self.ask("GET", f"/v1/orders/{order_id}").json()
        return found

    def until(self, order_id: str, *statuses: str, limit_s: float = PATIENCE_S) -> dict[str, Any]:
        """Waits until the order has one of the statuses."""
        return (
            wait_for(
                lambda: (order := self.look(order_id))["status"] in statuses and order,
                limit_s,
                f"{order_id} is {' or '.join(statuses)}",
            )
            or {}
        )
