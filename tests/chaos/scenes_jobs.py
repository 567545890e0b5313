"""Crash points that jobs meet: enqueued, run by each kind of worker, ended in each way, cancelled, in batches and canvases."""

import time
from collections.abc import Callable, Iterator

import sample_batches
import sample_tasks
from crash_world import ALONE, FAILED, PLAIN, World, scene
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from jobs import connections, keys
from jobs.queue import calling, canvas_store, dead_letters, ending
from jobs.queue.canvas import chord, group
from jobs.queue.canvas_handle import launch
from jobs.queue.job import JobSpec, JsonJob
from jobs.queue.worker import CpuWorker, IoWorker

Work = Iterator[Callable[[], object]]
FAR_S = 3_600.0
ENQUEUED = "enqueue.asked enqueue.written"


def send(world: World, job: JobSpec) -> None:
    calling.enqueue(world.client, job, now=time.time())


def add(job_id: str) -> JobSpec:
    return sample_tasks.add.spec(1, 2, job_id=job_id)


# --- enqueued ---------------------------------------------------------------------------------


@scene(ENQUEUED)
def enqueue_a_job(world: World) -> Work:
    yield lambda: send(world, add("j"))
    send(world, add("j"))
    world.recover()
    assert world.result("j") == 3
    world.books()


@scene(ENQUEUED)
def enqueue_a_delayed_job(world: World) -> Work:
    def delay() -> bool:
        now = time.time()
        return calling.enqueue(world.client, add("j"), now=now, due_at=now + FAR_S)

    yield delay
    delay()
    assert world.client.zcard(keys.SCHEDULED_JOBS) == 1
    world.recover()
    assert world.result("j") == 3
    world.books()


@scene(f"{ENQUEUED} enqueue.written:2")
def enqueue_many_jobs(world: World) -> Work:
    def place() -> object:
        return calling.place_many(world.client, [add(job_id) for job_id in "abc"], now=time.time())

    yield place
    place()
    world.recover()
    assert [world.result(job_id) for job_id in "abc"] == [3, 3, 3]
    world.books()


@scene("canvas.asked canvas.launched")
def launch_a_canvas(world: World) -> Work:
    def start() -> None:
        launch(world.client, chord([sample_tasks.add.s(1, 2), sample_tasks.add.s(3, 4)], sample_tasks.collect.s()), canvas_id="c")

    yield start
    start()
    world.recover()
    assert canvas_store.get(world.client, "c").result == [[3, 7]]
    world.books()


@scene("batch.asked batch.added")
def add_items_to_a_batch(world: World) -> Work:
    yield lambda: sample_batches.gather.add_many(world.client, [1, 2], ["a", "b"])
    sample_batches.gather.add_many(world.client, [1, 2], ["a", "b"])
    world.recover()
    assert [world.result(sample_batches.gather.job_id(item_id)) for item_id in "ab"] == [1, 2]
    world.books()


# --- run --------------------------------------------------------------------------------------


@scene(PLAIN)
def plain_jobs_in_an_io_worker(world: World) -> Work:
    calling.place_many(world.client, [add(job_id) for job_id in "abc"], now=time.time())
    yield world.worker(IoWorker, "default")
    world.recover()
    assert [(world.result(job_id), world.failures(job_id)) for job_id in "abc"] == [(3, 0)] * 3
    world.books()


@scene(f"{PLAIN} child.kept child.sent", cpu=True)
def plain_jobs_in_a_cpu_worker(world: World) -> Work:
    calling.place_many(world.client, [add(job_id) for job_id in "abc"], now=time.time())
    yield world.worker(CpuWorker, "default")
    world.recover()
    assert [(world.result(job_id), world.failures(job_id)) for job_id in "abc"] == [(3, 0)] * 3
    world.books()


@scene(PLAIN)
def a_coroutine(world: World) -> Work:
    send(world, sample_tasks.add_later.spec(1, 2, job_id="j"))
    yield world.worker(IoWorker, "default")
    world.recover()
    assert world.result("j") == 3
    world.books()


@scene("claim.answered claim.begun run.returned ack.asked ack.written")
def a_unique_job(world: World) -> Work:
    sample_tasks.single.delay()
    yield world.worker(IoWorker, "default")
    world.recover()
    sample_tasks.single.delay()
    assert world.client.llen(keys.queue("default")) == 1, "its lock is free"
    world.recover()
    world.books()


@scene(f"{ALONE} end.asked:2 end.written:2 end.asked:3 end.written:3")
def members_and_callback_of_a_chord(world: World) -> Work:
    launch(world.client, chord([sample_tasks.add.s(1, 2), sample_tasks.add.s(3, 4)], sample_tasks.collect.s()), canvas_id="c")
    yield world.worker(IoWorker, "default")
    world.recover()
    view = canvas_store.get(world.client, "c")
    assert (view.status, view.result, view.total, view.done) == ("finished", [[3, 7]], 3, 3)
    world.books()


@scene(f"{FAILED}")
def a_member_that_fails_for_good(world: World) -> Work:
    launch(world.client, group(sample_tasks.refuse.s("no"), sample_tasks.add.s(1, 2)), canvas_id="c")
    yield world.worker(IoWorker, "default")
    world.recover()
    view = canvas_store.get(world.client, "c")
    assert (view.status, view.done, view.failed) == ("failed", 1, 1)
    world.books(dead=1)


@scene(f"{FAILED} child.kept child.sent", cpu=True)
def a_job_that_is_tried_again(world: World) -> Work:
    send(world, sample_tasks.fail_later.spec("no", job_id="j"))
    yield world.worker(CpuWorker, "default")
    world.recover()
    letter = dead_letters.get(world.client, "j")
    assert [attempt.attempt for attempt in letter.attempts] == [1, 2, 3], "no attempt is lost, none is counted twice"
    world.books(dead=1)


@scene(FAILED)
def a_job_that_becomes_a_dead_letter(world: World) -> Work:
    send(world, sample_tasks.refuse.spec("no", job_id="j"))
    yield world.worker(IoWorker, "default")
    world.recover()
    assert [attempt.attempt for attempt in dead_letters.get(world.client, "j").attempts] == [1]
    world.books(dead=1)


@scene("claim.answered end.asked end.written")
def a_job_that_came_too_late(world: World) -> Work:
    task = sample_tasks.add
    send(world, task.build(task.options(expires_s=1e-6).defaults, (1, 2), {}, job_id="j", now=time.time() - 1))
    yield world.worker(IoWorker, "default")
    world.recover()
    assert world.client.hget(keys.job("j"), "status") in (b"canceled", b"finished"), "one that was claimed may run"
    world.books()


@scene(f"{PLAIN} batch.taken batch.answered batch.written")
def a_batch(world: World) -> Work:
    sample_batches.gather.add_many(world.client, [1, {"fail": "no"}, 3], ["a", "b", "c"])
    yield world.worker(IoWorker, "default")
    world.recover()
    assert [world.result(sample_batches.gather.job_id(item_id)) for item_id in "ac"] == [1, 3]
    assert len(dead_letters.get(world.client, sample_batches.gather.job_id("b")).attempts) == 3
    world.books(dead=1)


@scene("run.raised end.asked end.written")
def a_batch_that_an_open_circuit_puts_off(world: World) -> Work:
    sample_batches.gather.add_many(world.client, [{"raise": "circuit"}], ["a"])
    yield world.worker(IoWorker, "default")
    world.client.lset(keys.batch("sample.gather"), 0, b"a 1")  # the circuit is closed again
    world.recover()
    assert world.result(sample_batches.gather.job_id("a")) == 1
    world.books()


@scene("run.raised ack.asked ack.written")
def a_batch_that_a_drain_hands_back(world: World) -> Work:
    sample_batches.gather.add_many(world.client, [{"raise": "drain"}], ["a"])
    yield world.worker(IoWorker, "default")
    world.client.lset(keys.batch("sample.gather"), 0, b"a 1")
    world.recover()
    assert world.result(sample_batches.gather.job_id("a")) == 1
    world.books()


@scene("claim.found")
def a_claim_whose_reply_was_lost(world: World) -> Work:
    send(world, add("j"))
    world.hands.must_claim("default", execution="abcdefabcdef-0")
    yield lambda: ending.hand_back_lost(world.client, ["default"], "abcdefabcdef-", (), time.time())
    world.recover()
    assert world.result("j") == 3
    world.books()


@scene("claim.answered suspect.noted run.ready ack.asked ack.written")
def a_job_that_one_more_crash_quarantines(world: World) -> Work:
    send(world, add("j"))
    world.client.hset(keys.job("j"), "crashes", 2)
    yield world.worker(IoWorker, "default")
    world.recover()
    if world.client.zcard(keys.DEAD):
        letter = dead_letters.get(world.client, "j")
        assert (letter.error_type, world.failures("j")) == ("Quarantined", 0), "no attempt is burned"
        dead_letters.redrive(world.client, "j")
        world.recover()
    assert world.result("j") == 3
    world.books()


# --- under a stock worker ---------------------------------------------------------------------


def stock(world: World) -> Callable[[], object]:
    def work() -> object:
        client = connections.connect(world.url)
        return SimpleWorker(["default"], connection=client, serializer=JSONSerializer, job_class=JsonJob).work(burst=True)

    return work


@scene("stock.decided")
def a_failure_under_a_stock_worker(world: World) -> Work:
    send(world, sample_tasks.fail_later.spec("no", job_id="j"))
    yield stock(world)
    world.now += FAR_S
    world.recover()
    assert [attempt.attempt for attempt in dead_letters.get(world.client, "j").attempts] == [1, 2, 3]
    world.books(dead=1)


@scene("stock.told")
def a_member_under_a_stock_worker(world: World) -> Work:
    launch(world.client, chord([sample_tasks.add.s(1, 2)], sample_tasks.collect.s()), canvas_id="c")
    yield stock(world)
    world.now += FAR_S
    world.recover()
    assert canvas_store.get(world.client, "c").result == [[3]]
    world.books()
