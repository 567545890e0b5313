"""Crash points that requests meet: the web dies with the answer, and the same request again gets it from the next one."""

import json
import time
from collections.abc import Callable, Iterator

import httpx
from crash_world import World, scene
from web_site import serving

from jobs import keys
from jobs.queue import catalogue
from jobs.settings import current

Work = Iterator[Callable[[], object]]
Send = Callable[[httpx.Client], httpx.Response]
ACCEPTED = "accept.asked accept.written"
INGESTED = "entries.asked entries.written"
LANE = "application/json"
APPLICATION = "application/json; charset=utf-8"
"""Unusual enough for a request to be the application's."""


def ask(send: Send, times: int = 1) -> list[httpx.Response]:
    with serving(current()) as client:
        return [send(client) for _ in range(times)]


def order(content_type: str, **fields: object) -> Send:
    body = json.dumps({"lines": [{"sku": "A", "quantity": 2}], **fields})
    headers = {"Idempotency-Key": "k", "Content-Type": content_type}
    return lambda client: client.post("/v1/orders", content=body, headers=headers)


def accepted_once(world: World, send: Send) -> Work:
    world.floor.put("A", 7)
    yield lambda: ask(send)
    first, second = ask(send, 2)
    assert (first.status_code, second.status_code, second.headers["idempotency-replayed"]) == (202, 202, "true")
    assert first.content == second.content and world.client.zcard(keys.ORDERS) == 1
    world.recover()
    world.delivered(first.json()["id"])
    world.books(stock={"A": 7})


@scene(ACCEPTED)
def an_order_at_the_protocol(world: World) -> Work:
    return accepted_once(world, order(LANE))


@scene(ACCEPTED)
def an_order_in_the_application(world: World) -> Work:
    return accepted_once(world, order(APPLICATION))


@scene(ACCEPTED)
def a_delayed_order(world: World) -> Work:
    return accepted_once(world, order(LANE, countdown_s=60.0))


@scene(ACCEPTED)
def an_order_with_a_receiver(world: World) -> Work:
    name = f"accepted-{time.time()}"
    yield from accepted_once(world, order(LANE, notify_url=f"{world.receiver.url}/{name}"))
    assert world.receiver.statuses(name) == world.floor.history(only(world))


def only(world: World) -> str:
    [order_id] = world.client.zrange(keys.ORDERS, 0, -1)
    return str(order_id.decode())


def entered_once(world: World, content_type: str, n: int) -> Work:
    lines = "\n".join(json.dumps({"gate": "n", "event_id": f"e{number}"}) for number in range(n))
    headers = {"Content-Type": content_type}

    def send(client: httpx.Client) -> httpx.Response:
        return client.post("/v1/entries", content=lines, headers=headers)

    yield lambda: ask(send)
    first, second = ask(send, 2)
    assert first.status_code == 202 and first.json()["accepted"] in (0, n)
    assert second.json() == {"accepted": 0, "duplicates": n, "rejected": []}
    world.recover()
    assert world.client.hget(keys.ENTRIES, "counted") == str(n).encode()
    world.books()


@scene(INGESTED)
def an_entry_at_the_protocol(world: World) -> Work:
    return entered_once(world, LANE, 1)


@scene(INGESTED)
def an_entry_in_the_application(world: World) -> Work:
    return entered_once(world, APPLICATION, 1)


@scene(INGESTED)
def entries_line_by_line(world: World) -> Work:
    return entered_once(world, "application/x-ndjson", 50)


def enqueued_once(world: World, **fields: object) -> Work:
    catalogue.publish(world.client)
    body = {"task": "sample.add", "args": [1, 2], "unique_key": "k", **fields}

    def send(client: httpx.Client) -> httpx.Response:
        return client.post("/v1/jobs", json=body)

    yield lambda: ask(send)
    first, second = ask(send, 2)
    assert (first.status_code, second.json()) == (202, {"id": first.json()["id"], "created": False})
    world.recover()
    assert world.result(first.json()["id"]) == 3
    world.books()


@scene("enqueue.asked enqueue.written")
def a_job_by_name(world: World) -> Work:
    return enqueued_once(world)


@scene("enqueue.asked enqueue.written")
def a_delayed_job_by_name(world: World) -> Work:
    return enqueued_once(world, countdown_s=60.0)
