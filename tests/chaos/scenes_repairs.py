"""Crash points of the scheduler's repairs: what stock workers lose, dead letters of many, orders that nothing leads on."""

import time
from collections.abc import Callable, Iterator

import sample_batches
import sample_tasks
import scenes_jobs
import scenes_letters
import scenes_orders
from crash_world import STEPS, World, scene
from letters import check_index

from jobs import keys
from jobs.mall.orders import Step
from jobs.queue import calling, canvas_store, redrives
from jobs.queue.canvas import chord, group
from jobs.queue.canvas_handle import launch

Work = Iterator[Callable[[], object]]
SWEPT = "sweep.looked sweep.requeued"
HEALED = "reconcile.doubted reconcile.healed"


# --- swept, adopted, trimmed --------------------------------------------------------------------


@scene(SWEPT)
def sweep_what_a_stock_worker_parked(world: World) -> Work:
    scenes_jobs.send(world, scenes_jobs.add("j"))
    world.client.lmove(keys.queue("default"), keys.intermediate("default"), "LEFT", "RIGHT")
    yield world.schedule
    world.recover()
    assert world.result("j") == 3
    world.books()


@scene(SWEPT)
def sweep_what_a_stock_worker_popped(world: World) -> Work:
    calling.place_many(world.client, [scenes_jobs.add(job_id) for job_id in "ab"], now=time.time())
    world.client.delete(keys.queue("default"))
    yield world.schedule
    world.recover()
    assert [world.result(job_id) for job_id in "ab"] == [3, 3]
    world.books()


@scene("adopt.read")
def adopt_what_only_rq_has_put_away(world: World) -> Work:
    launch(world.client, group(sample_tasks.add.s(1, 2)), canvas_id="c")
    claim = world.hands.must_claim("default")
    world.client.zrem(keys.wip("default"), claim.member)
    world.client.hset(keys.job(claim.id), "status", "failed")
    world.client.zadd(keys.failed("default"), {claim.id: world.now})
    yield world.schedule
    world.recover()
    assert canvas_store.get(world.client, "c").status == "failed"
    check_index(world.client)
    world.books(dead=1)


@scene("trim.read trim.discarded")
def trim_the_dead_letters(world: World) -> Work:
    ids = scenes_letters.dead_orders(world)
    world.dead_letters_max = 1
    yield world.schedule
    world.recover()
    assert [world.floor.status(order_id) for order_id in ids] == ["dead", "dead"]
    assert world.floor.stock("A") == (7, 2), "the older one's stock is free"
    check_index(world.client)


# --- redrives of many -------------------------------------------------------------------------


@scene("redrives.asked redrives.opened")
def ask_for_a_redrive_of_many(world: World) -> Work:
    ids = scenes_letters.dead_orders(world)
    yield lambda: redrives.request(world.client, "redrive", by="test")
    redrives.request(world.client, "redrive", by="test")
    world.recover()
    world.delivered(*ids)
    world.books(stock={"A": 7})


@scene("redrives.read redrives.moved redrives.emptied")
def redrive_many(world: World) -> Work:
    ids = scenes_letters.dead_orders(world)
    scenes_letters.bury(world, "j")
    asked = redrives.request(world.client, "redrive", by="test")
    yield world.schedule
    world.recover()
    record = redrives.get(world.client, asked.id)
    assert (record.state, record.done, record.refused) == ("done", 3, 0)
    world.delivered(*ids)
    assert world.result("j") == 3
    world.books(stock={"A": 7})


@scene("redrives.read redrives.moved redrives.emptied")
def discard_many(world: World) -> Work:
    scenes_letters.dead_orders(world)
    scenes_letters.bury(world, "j")
    asked = redrives.request(world.client, "discard", by="test")
    yield world.schedule
    world.recover()
    record = redrives.get(world.client, asked.id)
    assert (record.state, record.done) == ("done", 3) and world.floor.stock("A") == (7, 0)
    world.books(stock={"A": 7})


# --- reconciled -------------------------------------------------------------------------------


def lose_orders_jobs(world: World, step: int) -> Work:
    ids = scenes_orders.at(world, step)
    for job_id in world.client.lrange(keys.queue(STEPS[step]), 0, -1):
        world.client.delete(keys.job(job_id.decode()))
    world.client.delete(keys.queue(STEPS[step]))
    if step == list(Step).index(Step.PICK):
        world.client.delete(keys.PICK_BUFFER, keys.PICK_JOB)
    yield world.schedule
    world.recover()
    world.delivered(*ids)
    world.books(stock={"A": 7})


@scene(HEALED)
def heal_orders_that_nobody_picks(world: World) -> Work:
    return lose_orders_jobs(world, 0)


@scene(HEALED)
def heal_orders_that_nobody_packs(world: World) -> Work:
    return lose_orders_jobs(world, 1)


@scene(HEALED)
def heal_orders_that_nobody_delivers(world: World) -> Work:
    return lose_orders_jobs(world, 2)


@scene(HEALED)
def heal_an_order_that_nothing_starts(world: World) -> Work:
    order_id = world.floor.order(("A", 1), countdown_s=60.0)
    world.client.delete(keys.SCHEDULED_JOBS, keys.job(f"{order_id}-start"))
    yield world.schedule
    world.recover()
    world.delivered(order_id)
    world.books()


@scene("buffer.healed")
def heal_the_buffers(world: World) -> Work:
    scenes_orders.enter(world)
    ids = scenes_orders.at(world, 0)
    sample_batches.gather.add_many(world.client, [1], ["x"])
    for queue in ("entries", "picking", "default"):
        for job_id in world.client.lrange(keys.queue(queue), 0, -1):
            world.client.delete(keys.job(job_id.decode()))
        world.client.delete(keys.queue(queue))
    yield world.schedule
    world.recover()
    assert world.result(sample_batches.gather.job_id("x")) == 1
    assert world.client.hget(keys.ENTRIES, "counted") == b"3"
    world.delivered(*ids)
    world.books(stock={"A": 7})


@scene("notices.healed")
def heal_a_notice(world: World) -> Work:
    order_id = world.floor.order(("A", 1), notify_url=f"{world.receiver.url}/healed")
    [job_id] = [job_id.decode() for job_id in world.client.lrange(keys.queue("notify"), 0, -1)]
    world.client.delete(keys.queue("notify"), keys.job(job_id))
    yield world.schedule
    world.recover()
    told = [line["event"]["data"]["id"] for line in world.receiver.told("healed")]
    assert told.count(order_id) == len(world.floor.history(order_id))
    world.books()


@scene("canvas.healed")
def heal_a_member_of_a_canvas(world: World) -> Work:
    launch(world.client, chord([sample_tasks.add.s(1, 2), sample_tasks.add.s(3, 4)], sample_tasks.collect.s()), canvas_id="c")
    for job_id in world.client.lrange(keys.queue("default"), 0, -1):
        world.client.delete(keys.job(job_id.decode()))
    world.client.delete(keys.queue("default"))
    yield world.schedule
    world.recover()
    assert canvas_store.get(world.client, "c").result == [[3, 7]]
    world.books()
