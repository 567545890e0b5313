"""Crash points that the scheduler meets: each duty dies in its middle, and the next leader's goes on."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import sample_batches
import sample_tasks
import scenes_jobs
import scenes_orders
from crash_world import STEPS, World, scene
from letters import check_index
from rq_scheduler import Scheduler

from jobs import keys
from jobs.queue import calling, canvas_store, dead_letters, schedules
from jobs.queue.canvas import chord, group
from jobs.queue.canvas_handle import launch
from jobs.queue.job import JsonJob
from jobs.queue.periodic import Overlap, Periodic
from jobs.queue.task import task
from scheduler.duty import Duty
from scheduler.loop import Loop
from scheduler.server import Server

Work = Iterator[Callable[[], object]]
RECLAIMED = "reclaim.asked reclaim.moved"
SWEPT = "sweep.looked sweep.requeued"
HEALED = "reconcile.doubted reconcile.healed"
HOUR_S = 3_600


@task(name="test.hourly", queue="ticks")
def hourly() -> int:
    return 1


# --- who leads --------------------------------------------------------------------------------


def loop(world: World, *duties: Duty) -> Loop:
    return Loop(world.client, Server(world.client, 4.0), "test", duties or world.duties())


def run_until_it_leaves(world: World) -> None:
    leading = loop(world)
    leading.step()
    leading.leave()


@scene("lead.asked lead.won lead.done lead.leaving")
def lead(world: World) -> Work:
    scenes_jobs.send(world, scenes_jobs.add("j"))
    world.hands.must_claim("default", now=time.time() - HOUR_S)
    yield lambda: run_until_it_leaves(world)
    before = world.client.get(keys.SCHEDULER_EPOCH)
    world.client.delete(keys.SCHEDULER_LOCK)  # as if its lease had run out
    following = loop(world)
    following.step()
    assert world.client.get(keys.SCHEDULER_EPOCH) != before, "another one leads"
    following.leave()
    world.recover()
    assert world.result("j") == 3
    world.books()


# --- promoted ---------------------------------------------------------------------------------


@scene("promote.asked promote.moved")
def promote_delayed_jobs_retries_and_orders(world: World) -> Work:
    now = time.time()
    calling.enqueue(world.client, scenes_jobs.add("j"), now=now, due_at=now + 1)
    scenes_jobs.send(world, sample_tasks.fail_later.spec("no", job_id="retried"))
    world.hands.fail(world.hands.must_claim("default"), ValueError("no"), uniform=0.0)
    order_id = world.floor.order(("A", 1), countdown_s=1.0)
    yield world.schedule
    world.recover()
    assert world.result("j") == 3
    assert len(dead_letters.get(world.client, "retried").attempts) == 3
    world.delivered(order_id)
    world.books(dead=1)


@scene("promote.unreadable adopt.read")
def promote_a_job_that_cannot_be_read(world: World) -> Work:
    launch(world.client, group(sample_tasks.add.s(1, 2)), canvas_id="c")
    [member] = [job_id.decode() for job_id in world.client.lrange(keys.queue("default"), 0, -1)]
    world.client.delete(keys.queue("default"))
    world.client.hdel(keys.job(member), "data")
    world.client.hset(keys.job(member), "status", "scheduled")
    world.client.zadd(keys.SCHEDULED_JOBS, {member: world.now})
    yield world.schedule
    world.recover()
    assert canvas_store.get(world.client, "c").status == "failed"
    check_index(world.client)
    world.books(dead=1)


# --- periodic ---------------------------------------------------------------------------------


def table(overlap: Overlap = Overlap.SKIP) -> tuple[Periodic, ...]:
    return (Periodic("m", hourly, every_s=HOUR_S, overlap=overlap),)


def runs(world: World) -> list[str]:
    return [run.outcome for run in schedules.runs(world.client, "m")]


def registered(world: World, overlap: Overlap = Overlap.SKIP) -> None:
    """The table stands, and its job is due in a moment of the recovery's clock."""
    world.table = table(overlap)
    world.duties()[0].tick(world.now)
    [(_member, due_at)] = world.client.zrange(keys.SCHEDULED_JOBS, 0, -1, withscores=True)
    world.now = due_at - 1


@scene("register.read register.written")
def register_a_periodic_job(world: World) -> Work:
    world.table = table()
    yield world.schedule
    world.recover()
    assert world.client.zrange(keys.SCHEDULED_JOBS, 0, -1) == [b"cron-m"]
    world.books(periodic=True)


@scene("promote.moved fire.read fire.written")
def fire_a_periodic_job(world: World) -> Work:
    registered(world)
    yield world.schedule
    world.recover()
    assert runs(world) == ["finished"], "one fire time, one run"
    world.books(periodic=True)


@scene("runs.read fire.waited")
def fire_what_waited_for_the_last_run(world: World) -> Work:
    registered(world, Overlap.QUEUE_ONE)
    for _ in range(2):
        for duty in world.duties()[:2]:
            duty.tick(world.now + 2)
        world.now += HOUR_S
    world.now -= HOUR_S
    world.hands.work_off("ticks")
    yield world.schedule
    world.recover()
    assert runs(world) == ["finished", "finished"]
    world.books(periodic=True)


@scene("foreign.read foreign.fired")
def fire_a_periodic_job_of_rq_scheduler(world: World) -> Work:
    stock = Scheduler("ticks", connection=world.client, job_class=JsonJob)
    stock.schedule(datetime.fromtimestamp(world.now, UTC), hourly.path, [], id="every", interval=HOUR_S)
    yield world.schedule
    world.recover()
    [definition] = world.client.zrange(keys.SCHEDULED_JOBS, 0, -1)
    ran = [key.decode() for key in world.client.scan_iter(match="rq:results:cron-every-*")]
    assert definition == b"every" and len(ran) == 1 and world.client.xlen(ran[0]) == 1


# --- reclaimed --------------------------------------------------------------------------------


def claim_all(world: World, queue: str) -> None:
    """By a worker that dies with all of it."""
    while world.hands.claim(queue, now=time.time() - HOUR_S):
        pass


@scene(RECLAIMED)
def reclaim_jobs_of_every_kind(world: World) -> Work:
    calling.place_many(world.client, [scenes_jobs.add(job_id) for job_id in "abc"], now=time.time())
    launch(world.client, chord([sample_tasks.add.s(1, 2), sample_tasks.add.s(3, 4)], sample_tasks.collect.s()), canvas_id="c")
    sample_batches.gather.add_many(world.client, [1, 2], ["x", "y"])
    claim_all(world, "default")
    yield world.schedule
    world.recover()
    assert [(world.result(job_id), world.failures(job_id)) for job_id in "abc"] == [(3, 0)] * 3
    assert canvas_store.get(world.client, "c").result == [[3, 7]]
    assert [world.result(sample_batches.gather.job_id(item_id)) for item_id in "xy"] == [1, 2]
    world.books()


def reclaim_a_step(world: World, step: int) -> Work:
    ids = scenes_orders.at(world, step)
    claim_all(world, STEPS[step])
    yield world.schedule
    world.recover()
    world.delivered(*ids)
    world.books(stock={"A": 7})


@scene(RECLAIMED)
def reclaim_a_pick_batch(world: World) -> Work:
    return reclaim_a_step(world, 0)


@scene(RECLAIMED)
def reclaim_pack_jobs(world: World) -> Work:
    return reclaim_a_step(world, 1)


@scene(RECLAIMED)
def reclaim_deliver_jobs(world: World) -> Work:
    return reclaim_a_step(world, 2)


@scene(RECLAIMED)
def reclaim_a_count_job(world: World) -> Work:
    scenes_orders.enter(world)
    claim_all(world, "entries")
    yield world.schedule
    world.recover()
    assert world.client.hget(keys.ENTRIES, "counted") == b"3"
    world.books()


@scene(f"{RECLAIMED} quarantine.read quarantine.buried")
def quarantine_a_job(world: World) -> Work:
    scenes_jobs.send(world, scenes_jobs.add("j"))
    world.client.hset(keys.job("j"), "crashes", 2)
    claim = world.hands.must_claim("default", now=time.time() - HOUR_S)
    world.client.hset(keys.job("j"), "begun", claim.execution)  # a suspect is charged with what it had begun
    yield world.schedule
    world.recover()
    if world.client.zcard(keys.DEAD):
        letter = dead_letters.get(world.client, "j")
        assert letter.error_type == "Quarantined" and len(letter.attempts) == 1 and world.failures("j") == 0
        check_index(world.client)
        dead_letters.redrive(world.client, "j", by="test")
        world.recover()
    assert world.result("j") == 3
    world.books()
