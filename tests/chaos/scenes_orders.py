"""Crash points that orders and entries meet: each step, failing carriers, counting, webhooks, cancelling, dead orders."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial

from crash_world import FAILED, PLAIN, STEPS, World, scene

from jobs import keys
from jobs.mall import entries
from jobs.queue import dead_letters
from jobs.queue.worker import CpuWorker, IoWorker

Work = Iterator[Callable[[], object]]
STEP = f"{PLAIN} step.begun step.ending step.ended"


def at(world: World, step: int, *lines: tuple[str, int]) -> list[str]:
    """Two orders that wait for the step of that number, two A each unless said otherwise; seven were put."""
    world.floor.put("A", 7)
    ids = [world.floor.order(*(lines or (("A", 2),))) for _ in range(2)]
    world.hands.work_off(*STEPS[:step])
    return ids


def fields(world: World, order_id: str, name: str, value: str) -> str:
    """Sets a field of the order; returns what it was."""
    before = world.client.hget(keys.order(order_id), name)
    world.client.hset(keys.order(order_id), name, value)
    return str(before.decode())


# --- the steps --------------------------------------------------------------------------------


@scene(f"{PLAIN} pick.begun pick.ended")
def pick_a_batch(world: World) -> Work:
    ids = at(world, 0)
    too_much = world.floor.order(("A", 5))
    yield world.worker(IoWorker, "picking")
    world.recover()
    world.delivered(*ids)
    assert world.floor.status(too_much) == "rejected"
    world.books(stock={"A": 7})


@scene(f"{PLAIN} step.begun alone.ended")
def pick_an_order_alone(world: World) -> Work:
    [alone, other] = at(world, 0)
    lines = fields(world, alone, "lines", "{")
    world.hands.work("picking")
    fields(world, alone, "lines", lines)
    yield world.worker(IoWorker, "picking")
    world.recover()
    world.delivered(alone, other)
    world.books(stock={"A": 7})


@scene(f"{PLAIN} start.asked start.written")
def start_a_delayed_order(world: World) -> Work:
    world.floor.put("A", 7)
    order_id = world.floor.order(("A", 2), countdown_s=3_600.0)
    world.hands.promote()
    yield world.worker(IoWorker, "picking")
    world.recover()
    world.delivered(order_id)
    world.books(stock={"A": 7})


@scene(f"{STEP} child.kept child.sent", cpu=True)
def pack_in_a_cpu_worker(world: World) -> Work:
    ids = at(world, 1)
    yield world.worker(CpuWorker, "packing")
    world.recover()
    world.delivered(*ids)
    world.books(stock={"A": 7})


@scene(STEP)
def pack_in_an_io_worker(world: World) -> Work:
    ids = at(world, 1)
    yield world.worker(IoWorker, "packing")
    world.recover()
    world.delivered(*ids)
    world.books(stock={"A": 7})


@scene(f"{STEP} breaker.granted carrier.asked carrier.answered")
def deliver(world: World) -> Work:
    ids = at(world, 2)
    yield world.worker(IoWorker, "delivery")
    world.recover()
    world.delivered(*ids)
    world.books(stock={"A": 7})


@scene("pick.ended step.ended step.ended:2 carrier.answered ack.written")
def all_steps_in_one_worker(world: World) -> Work:
    ids = at(world, 0)
    yield world.worker(IoWorker, *STEPS)
    world.recover()
    world.delivered(*ids)
    world.books(stock={"A": 7})


@scene(f"{FAILED} step.begun carrier.answered")
def deliver_while_the_carrier_fails(world: World) -> Work:
    world.carrier.tell(mode="fail", status=503)
    ids = at(world, 2)
    yield world.worker(IoWorker, "delivery")
    world.carrier.tell(mode="ok")
    world.recover()
    world.delivered(*ids)
    assert all(attempt.attempt <= 2 for order_id in ids for attempt in world.floor.view(order_id).attempts)
    world.books(stock={"A": 7})


@scene(FAILED)
def deliver_what_the_carrier_refuses(world: World) -> Work:
    world.carrier.tell(mode="reject", status=422)
    ids = at(world, 2)
    yield world.worker(IoWorker, "delivery")
    world.recover()
    assert [world.floor.status(order_id) for order_id in ids] == ["dead", "dead"]
    assert world.floor.stock("A") == (7, 4), "a dead order holds its stock"
    world.carrier.tell(mode="ok")
    for order_id in ids:
        dead_letters.redrive(world.client, f"{order_id}-deliver", by="test")
    world.recover()
    world.delivered(*ids)
    world.books(stock={"A": 7})


@scene(f"{FAILED} step.begun child.kept child.sent", cpu=True)
def pack_what_cannot_be_read(world: World) -> Work:
    ids = at(world, 1)
    lines = [fields(world, order_id, "lines", "{") for order_id in ids]
    yield world.worker(CpuWorker, "packing")
    world.recover()
    assert [world.floor.status(order_id) for order_id in ids] == ["dead", "dead"]
    for order_id, text in zip(ids, lines, strict=True):
        fields(world, order_id, "lines", text)
        dead_letters.redrive(world.client, f"{order_id}-pack", by="test")
    world.recover()
    world.delivered(*ids)
    world.books(stock={"A": 7})


# --- entries ----------------------------------------------------------------------------------


def enter(world: World) -> list[bool]:
    """Sends three entries; each is new, or counted already."""
    now = time.time()
    bodies = [json.dumps({"gate": "n", "event_id": f"e{number}", "count": 2}).encode() for number in range(3)]
    read = [entries.parse(body, settings=world.settings, zone=world.settings.zone, now=now) for body in bodies]
    return world.ask(partial(entries.ingest, entries=read, settings=world.settings, now=now))


@scene("entries.asked entries.written")
def ingest_entries(world: World) -> Work:
    yield lambda: enter(world)
    new = enter(world)
    world.recover()
    assert new in ([True] * 3, [False] * 3) and world.client.hget(keys.ENTRIES, "counted") == b"3"
    world.books()


@scene(f"{PLAIN} count.asked count.applied")
def count_entries(world: World) -> Work:
    enter(world)
    yield world.worker(IoWorker, "entries")
    world.recover()
    assert enter(world) == [False] * 3 and world.client.hget(keys.ENTRIES, "counted") == b"3"
    world.books()


# --- webhooks ---------------------------------------------------------------------------------


@scene(f"{PLAIN} notice.read notice.sent notice.told notice.sent:3 ack.written:2")
def tell_of_an_order(world: World) -> Work:
    name = uuid.uuid4().hex
    order_id = world.floor.order(("A", 1), notify_url=f"{world.receiver.url}/{name}")
    world.hands.work_off(*STEPS)
    yield world.worker(IoWorker, "notify")
    world.recover()
    told = {line["headers"]["webhook-id"]: line["event"]["data"]["status"] for line in world.receiver.told(name)}
    assert list(told.values()) == world.floor.history(order_id), "each is told, in order; again only with the same id"
    assert len(world.receiver.told(name)) <= len(told) + 1
    world.delivered(order_id)
    world.books()


# --- cancelled, redriven, discarded ------------------------------------------------------------


def cancel(world: World, order_id: str) -> Callable[[], object]:
    return lambda: world.floor.cancel(order_id)


def cancelled(world: World, order_id: str) -> None:
    assert world.floor.cancel(order_id).status == "cancelled"
    world.recover()
    assert world.floor.history(order_id)[-1] == "cancelled" and world.carrier.bookings(order_id) == []
    world.books(stock={"A": 7})


@scene("cancel.asked cancel.written")
def cancel_an_order_that_waits(world: World) -> Work:
    [order_id, _other] = at(world, 0)
    yield cancel(world, order_id)
    cancelled(world, order_id)


@scene("cancel.asked cancel.written")
def cancel_a_delayed_order(world: World) -> Work:
    world.floor.put("A", 7)
    order_id = world.floor.order(("A", 1), countdown_s=3_600.0)
    yield cancel(world, order_id)
    cancelled(world, order_id)


@scene("cancel.asked cancel.written")
def cancel_an_order_that_holds_stock(world: World) -> Work:
    [order_id, _other] = at(world, 1)
    yield cancel(world, order_id)
    cancelled(world, order_id)
