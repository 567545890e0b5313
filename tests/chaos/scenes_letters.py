"""Crash points that meet who cancels jobs, or redrives and discards dead letters one by one."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sample_tasks
from crash_world import World, scene
from scenes_jobs import FAR_S, add, send
from scenes_orders import at

from jobs import keys
from jobs.errors import NotFound, Permanent
from jobs.queue import calling, canvas_store, dead_letters, job_store
from jobs.queue.canvas import chord, group
from jobs.queue.canvas_handle import launch

Work = Iterator[Callable[[], object]]


# --- cancelled --------------------------------------------------------------------------------


def cancel(world: World, job_id: str) -> str:
    return job_store.cancel(world.client, job_id, time.time()).status


@scene("revoke.read revoke.written")
def cancel_a_queued_job(world: World) -> Work:
    send(world, add("j"))
    yield lambda: cancel(world, "j")
    assert cancel(world, "j") == "canceled"
    world.recover()
    [(_id, told)] = world.client.xrange(keys.results("j"))
    assert b"return_value" not in told, "it never ran"
    world.books()


@scene("revoke.read revoke.written")
def cancel_a_delayed_job(world: World) -> Work:
    now = time.time()
    calling.enqueue(world.client, add("j"), now=now, due_at=now + FAR_S)
    yield lambda: cancel(world, "j")
    assert cancel(world, "j") == "canceled"
    world.recover()
    world.books()


@scene("revoke.read revoke.written")
def cancel_a_member_of_a_canvas(world: World) -> Work:
    launch(world.client, group(sample_tasks.add.s(1, 2), sample_tasks.add.s(3, 4)), canvas_id="c")
    [first, _second] = [job_id.decode() for job_id in world.client.lrange(keys.queue("default"), 0, -1)]
    yield lambda: cancel(world, first)
    cancel(world, first)
    world.recover()
    view = canvas_store.get(world.client, "c")
    assert (view.status, view.done, view.failed) == ("failed", 1, 1)
    world.books()


@scene("canvas.cancelled")
def cancel_a_canvas(world: World) -> Work:
    launch(world.client, group(sample_tasks.add.s(1, 2), sample_tasks.add.s(3, 4)), canvas_id="c")
    yield lambda: canvas_store.cancel(world.client, "c", time.time())
    canvas_store.cancel(world.client, "c", time.time())
    assert world.client.llen(keys.queue("default")) == 0
    world.recover()
    assert canvas_store.get(world.client, "c").status == "cancelled"
    world.books()


# --- dead letters -----------------------------------------------------------------------------


def bury(world: World, job_id: str) -> None:
    send(world, add(job_id))
    world.hands.fail(world.hands.must_claim("default"), Permanent("no"))


def must_be_gone(world: World, job_id: str) -> None:
    try:
        dead_letters.discard(world.client, job_id)
    except NotFound:
        return


@scene("redrive.read redrive.written")
def redrive_a_job(world: World) -> Work:
    bury(world, "j")
    yield lambda: dead_letters.redrive(world.client, "j", by="test")
    if world.client.zcard(keys.DEAD):
        dead_letters.redrive(world.client, "j", by="test")
    world.recover()
    assert world.result("j") == 3
    world.books()


@scene("redrive.read redrive.written")
def redrive_a_member_of_a_canvas(world: World) -> Work:
    with tempfile.TemporaryDirectory() as folder:
        launch(
            world.client,
            chord([sample_tasks.need.s(1, folder), sample_tasks.add.s(1, 2)], sample_tasks.collect.s()),
            canvas_id="c",
        )
        world.hands.work_off("default")
        [letter] = dead_letters.page(world.client, group=None, cursor=None, limit=2)[0]
        Path(folder, "go").touch()
        yield lambda: dead_letters.redrive(world.client, letter.id, by="test")
        if world.client.zcard(keys.DEAD):
            dead_letters.redrive(world.client, letter.id, by="test")
        world.recover()
    assert canvas_store.get(world.client, "c").result == [[[1], 3]]
    world.books()


@scene("discard.read discard.written")
def discard_a_job(world: World) -> Work:
    bury(world, "j")
    yield lambda: dead_letters.discard(world.client, "j", by="test")
    must_be_gone(world, "j")
    assert not world.client.exists(keys.job("j"))
    world.recover()
    world.books()


# --- of orders ---------------------------------------------------------------------------------


def dead_orders(world: World) -> list[str]:
    """Two orders that died at their delivery."""
    world.carrier.tell(mode="reject", status=422)
    ids = at(world, 2)
    world.hands.work_off("delivery")
    world.carrier.tell(mode="ok")
    assert world.client.zcard(keys.DEAD) == 2
    return ids


@scene("redrive.read redrive.written")
def redrive_an_order(world: World) -> Work:
    [first, second] = dead_orders(world)
    yield lambda: dead_letters.redrive(world.client, f"{first}-deliver", by="test")
    for letter in dead_letters.page(world.client, group=None, cursor=None, limit=10)[0]:
        dead_letters.redrive(world.client, letter.id, by="test")
    world.recover()
    world.delivered(first, second)
    world.books(stock={"A": 7})


@scene("discard.read discard.written")
def discard_an_order(world: World) -> Work:
    ids = dead_orders(world)
    yield lambda: dead_letters.discard(world.client, f"{ids[0]}-deliver", by="test")
    for letter in dead_letters.page(world.client, group=None, cursor=None, limit=10)[0]:
        dead_letters.discard(world.client, letter.id, by="test")
    world.recover()
    assert [world.floor.status(order_id) for order_id in ids] == ["dead", "dead"]
    assert world.floor.stock("A") == (7, 0)
    world.books(stock={"A": 7})
