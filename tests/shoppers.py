"""Clients of a running mall that repeat each request, with the same key, until it is answered, and remember every answer."""

import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
from system import System

from jobs import connections
from jobs.demo import sample
from jobs.queue import samples
from jobs.queue.canvas import chain, group
from jobs.queue.canvas_handle import launch

TRACKED_SKU = "85123A"
ON_HAND = 400
DELAY_S = 1.5
EVERY_DELAYED, EVERY_CANCELLED = 7, 11
MAX_AGE_S = 60.0
"""No request waits so long for an answer."""
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What was sent: `send` does it again and returns the answer."""

    kind: str
    key: str
    send: Callable[[], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """A request that was answered; from when on it was sent, again and again, and when it had its answer (monotonic)."""

    request: Request
    answer: Any
    asked_at: float
    answered_at: float


class Shoppers:
    """One thread each for orders, entries, canvases and items of a batch, and one that reads the counts."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._redis = connections.connect(system.server.url)
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self.said: list[Said] = []
        self.sums: list[tuple[int, int, int]] = []
        works = (self._orders, self._entries, self._canvases, self._items, self._read)
        self._threads = [threading.Thread(target=self._until_the_end, args=(work,), daemon=True) for work in works]

    def start(self) -> None:
        """The traffic begins."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends it when every request has its answer; raises what went wrong."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._redis.connection_pool.disconnect()
        self._check()

    def n_answered(self, kind: str) -> int:
        """How many requests of this kind were answered so far; raises what went wrong."""
        self._check()
        return len(self.of(kind))

    def of(self, kind: str) -> list[Said]:
        """What was answered to requests of this kind."""
        return [said for said in self.said if said.request.kind == kind]

    def ask(self, request: Request) -> Any:
        """Sends it until it is answered, and remembers that."""
        asked_at = time.monotonic()
        answer = self._patiently(request.send)
        self.said.append(Said(request, answer, asked_at, time.monotonic()))
        return answer

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _until_the_end(self, work: Callable[[], Iterator[float]]) -> None:
        try:
            for pause_s in work():
                if self._ended.wait(pause_s):
                    return
        except BaseException as error:  # noqa: BLE001  raised by `check`
            self._failure = error

    def _patiently(self, send: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + MAX_AGE_S
        while True:
            try:
                return send()
            except redis.exceptions.RedisError as error:
                if not connections.is_away(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def _orders(self) -> Iterator[float]:
        bodies = itertools.cycle(order.body for order in sample.orders() if not order.refusable)
        for number, body in enumerate(bodies, 1):
            fields = json.loads(body)
            if number % EVERY_DELAYED == 0:
                fields["countdown_s"] = DELAY_S
            headers = JSON | {"Idempotency-Key": uuid.uuid4().hex}
            order = self.ask(self._http("order", "", "/v1/orders", (202,), json.dumps(fields), headers))
            if number % EVERY_CANCELLED == 0:
                self.ask(self._http("cancel", order["id"], f"/v1/orders/{order['id']}/cancel", (200, 404, 409), "{}", JSON))
            yield 0.04

    def _entries(self) -> Iterator[float]:
        slots = itertools.cycle(people for day in sample.footfall().values() for people in day if people)
        for people in slots:
            key = uuid.uuid4().hex
            lines = "\n".join(json.dumps({"gate": "main", "event_id": f"{key}-{number}"}) for number in range(people))
            headers = {"Content-Type": "application/x-ndjson"}
            self.ask(self._http("entries", f"{people}", "/v1/entries", (202,), lines, headers))
            yield 0.02

    def _canvases(self) -> Iterator[float]:
        while True:
            canvas_id = f"c-{uuid.uuid4().hex}"
            chains = [chain(samples.add.s(start, 1), samples.add.s(2), samples.add.s(3)) for start in range(4)]

            def send(canvas_id: str = canvas_id, chains: list[Any] = chains) -> str:
                return launch(self._redis, group(*chains), canvas_id=canvas_id).id

            self.ask(Request("canvas", canvas_id, send))
            yield 0.2

    def _items(self) -> Iterator[float]:
        for number in itertools.count():
            item_id = uuid.uuid4().hex

            def send(number: int = number, item_id: str = item_id) -> str:
                return samples.sum_up.add(self._redis, [number, 1], item_id)

            self.ask(Request("item", item_id, send))
            yield 0.2

    def _read(self) -> Iterator[float]:
        while True:
            summary = self._system.ask("GET", "/v1/footfall/summary").json()
            self.sums.append((summary["accepted"], summary["counted"], summary["pending"]))
            yield 0.1

    def _http(self, kind: str, key: str, path: str, expected: tuple[int, ...], content: str, headers: dict[str, str]) -> Request:
        def send() -> Any:
            answer = self._system.ask("POST", path, content=content, headers=headers)
            if answer.status_code not in expected:
                raise AssertionError(f"{path}: {answer.status_code} {answer.text}")
            return answer.json()

        return Request(kind, key, send)
