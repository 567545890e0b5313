"""What the clients of a run send: the recorded orders and half hours, jobs and canvases, each request with an id of its own.

Everything about a request follows from its number and the seed; sent again, it is the same to the byte.
"""

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import redis
from history import Op

from jobs import connections
from jobs.demo import sample
from jobs.queue import samples
from jobs.queue.canvas import chain, group
from jobs.queue.canvas_handle import launch

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
GATES = 64
"""Few bodies share a gate and a minute, so that a sum that is wrong leads to the body."""
DELAYS_S = (1.0, 4.0)
FAILURES = 3
CHAINS = 4
AGAIN = frozenset({408, 425, 429})
IN_FLIGHT = 409
"""To an order: another request with its key has no answer yet."""
FAILING, CRASHING = 0.2, 0.05
"""Shares of the jobs."""

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: an HTTP status, or 0 with the error; `fields` are those of the record. `after_s`: as Retry-After asks."""

    status: int
    fields: Fields = field(default_factory=dict)
    after_s: float = 0.0


Send = Callable[[httpx.AsyncClient], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One request. `sent` are fields of its record; `again` are statuses that say to send it again."""

    op: Op
    id: str
    send: Send
    sent: Fields = field(default_factory=dict)
    again: frozenset[int] = AGAIN

    def answered(self, answer: Answer) -> bool:
        """Whether the answer says what became of the request."""
        return 200 <= answer.status < 500 and answer.status not in self.again


class Goods:
    """Endless requests of every kind; canvases and items go straight to Redis, as programs send them."""

    def __init__(self, seed: int, *, delayed: float, redis_url: str) -> None:
        self._chance = random.Random(seed)
        self._run = uuid.UUID(int=self._chance.getrandbits(128)).hex[:6]
        self._numbers = itertools.count()
        self._delayed = delayed
        self._orders = itertools.cycle([(msgspec.json.decode(order.body), order.refusable) for order in sample.orders()])
        self._slots = itertools.cycle([people for day in sample.footfall().values() for people in day if people])
        self._redis = connections.connect(redis_url) if redis_url else None

    def close(self) -> None:
        """Lets go of the connection."""
        if self._redis is not None:
            self._redis.connection_pool.disconnect()

    def order(self) -> Call:
        """The next recorded order, under a reference of its own; some start later."""
        key, (recorded, refusable) = self._id("o"), next(self._orders)
        body = {**recorded, "reference": key}
        delay_s = round(self._chance.uniform(*DELAYS_S), 1) if self._chance.random() < self._delayed else 0.0
        if delay_s:
            body["countdown_s"] = delay_s
        send = _post("/v1/orders", msgspec.json.encode(body), JSON | {"Idempotency-Key": key}, _order_fields)
        return Call(Op.ORDER, key, send, {"refusable": refusable, "delay_s": delay_s}, AGAIN | {IN_FLIGHT})

    def cancel(self, order_id: str) -> Call:
        """Cancels the order."""
        return Call(Op.CANCEL, order_id, _post(f"/v1/orders/{order_id}/cancel", b"{}", JSON, _nothing))

    def entries(self, n_lines: int) -> Call:
        """A body of events at one gate now; each is a recorded half hour with the people who entered in it."""
        return self._events(Op.ENTRIES, self._id("b"), n_lines, NDJSON)

    def entry(self) -> Call:
        """One event."""
        return self._events(Op.ENTRY, self._id("e"), 1, JSON)

    def job(self) -> Call:
        """A job of a sample task: most add, some fail a few times first, some kill their process once."""
        key, chance = self._id("j"), self._chance.random()
        task, args, sent = "samples.add", list[Any]([len(key), 2]), {"expected": len(key) + 2}
        if chance < FAILING:
            failures = self._chance.randint(1, FAILURES)
            task, args, sent = "samples.fail_times", [failures, key], {"expected": failures + 1, "failures": failures}
        elif chance < FAILING + CRASHING:
            task, args, sent = "samples.crash", [key], {}
        body = msgspec.json.encode({"task": task, "args": args, "unique_key": key})
        return Call(Op.JOB, key, _post("/v1/jobs", body, JSON, _job_fields), sent)

    def canvas(self) -> Call:
        """A group of chains."""
        canvas_id = self._id("c")

        def send() -> str:
            chains = [chain(samples.add.s(start, 1), samples.add.s(2), samples.add.s(3)) for start in range(CHAINS)]
            return launch(self._client, group(*chains), canvas_id=canvas_id).id

        return Call(Op.CANVAS, canvas_id, _at_redis(send), {"expected": [start + 6 for start in range(CHAINS)]})

    def item(self) -> Call:
        """An item of a batch."""
        item_id = self._id("i")

        def send() -> str:
            return samples.sum_up.add(self._client, [len(item_id), 1], item_id)

        return Call(Op.ITEM, item_id, _at_redis(send), {"expected": len(item_id) + 1})

    def stock(self, sku: str, on_hand: int) -> Call:
        """What is on hand of a SKU from the beginning."""
        body = msgspec.json.encode({"on_hand": on_hand})
        return Call(Op.STOCK, sku, _send("PUT", f"/v1/stock/{sku}", body, JSON, _nothing), {"n": on_hand})

    @property
    def _client(self) -> redis.Redis:
        if self._redis is None:
            raise ValueError("canvases and items need the URL of Redis")
        return self._redis

    def _id(self, letter: str) -> str:
        return f"{self._run}-{letter}{next(self._numbers)}"

    def _events(self, op: Op, key: str, n_lines: int, headers: dict[str, str]) -> Call:
        now, gate = datetime.fromtimestamp(time.time(), UTC), f"gate-{self._chance.randrange(GATES)}"
        counts = list(itertools.islice(self._slots, n_lines))
        rest = f'"gate":"{gate}","at":"{now:%Y-%m-%dT%H:%M:%SZ}","count":'
        body = "\n".join([f'{{"event_id":"{key}-{i}",{rest}{people}}}' for i, people in enumerate(counts)]).encode()
        sent = {"n": n_lines, "people": sum(counts), "gate": gate, "minute": f"{now:%Y-%m-%dT%H:%M}"}
        return Call(op, key, _post("/v1/entries", body, headers, _entries_fields), sent)


def _post(path: str, content: bytes, headers: dict[str, str], read: Callable[[httpx.Response], Fields]) -> Send:
    return _send("POST", path, content, headers, read)


def _send(method: str, path: str, content: bytes, headers: dict[str, str], read: Callable[[httpx.Response], Fields]) -> Send:
    async def send(http: httpx.AsyncClient) -> Answer:
        try:
            response = await http.request(method, path, content=content, headers=headers)
        except httpx.TransportError as error:
            return Answer(0, {"error": repr(error)})
        if response.is_success:
            return Answer(response.status_code, read(response))
        after = response.headers.get("retry-after", "")
        return Answer(response.status_code, {"error": response.text[:200]}, float(after) if after.isdigit() else 0.0)

    return send


def _at_redis(call: Callable[[], str]) -> Send:
    async def send(_http: httpx.AsyncClient) -> Answer:
        try:
            return Answer(200, {"answer": await asyncio.to_thread(call)})
        except redis.exceptions.RedisError as error:
            if not connections.is_away(error):
                raise
            return Answer(0, {"error": repr(error)})

    return send


def _order_fields(response: httpx.Response) -> Fields:
    replayed = response.headers.get("idempotency-replayed") == "true"
    return {"answer": response.json()["id"], **({"replayed": True} if replayed else {})}


def _entries_fields(response: httpx.Response) -> Fields:
    found = response.json()
    if found["rejected"]:
        return {"error": str(found["rejected"][0])[:200], "accepted": found["accepted"], "duplicates": found["duplicates"]}
    return {"accepted": found["accepted"], "duplicates": found["duplicates"]}


def _job_fields(response: httpx.Response) -> Fields:
    found = response.json()
    return {"answer": found["id"], "replayed": not found["created"]}


def _nothing(_response: httpx.Response) -> Fields:
    return {}
