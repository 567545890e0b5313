"""Directed scenes for the planted bugs: one thing happens at the worst moments, the system recovers, the checker judges.

`python tests/chaos/planted_scenes.py SCENE ...`, on the empty Redis at REDIS_URL, with a free port in CARRIER_URL and the product
of PYTHONPATH, prints in its last line what the checker found in each scene, as JSON.
"""

import itertools
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import sample_tasks
from hands import LEASE_S
from periodic_floor import PeriodicFloor
from planted_stage import Stage, theatre

import jobs
from jobs import keys
from jobs.errors import NotFound, Permanent
from jobs.queue import calling, dead_letters, ending, samples
from jobs.queue.periodic import Periodic
from jobs.queue.registration import Registration
from jobs.queue.task import task
from jobs.setting_values import Range
from scheduler.foreign import Foreign
from scheduler.promote import Promotion


class Planned(Permanent):
    """What a job fails with that is to fail for good."""


@task(name="planted.tick", queue="ticks")
def tick() -> None:
    """What a periodic job runs here."""


def killed_job(stage: Stage) -> None:
    """A worker is killed anywhere between the claim and the ack of a job."""
    stage.killed_everywhere(stage.job, lambda _job: stage.first.work("default"))


def zombie_job(stage: Stage) -> None:
    """A worker stands still past its lease anywhere between claim and ack."""
    stage.overtaken_everywhere(stage.job, "default", lambda _job: stage.second.work("default"))


def zombie_heartbeat(stage: Stage) -> None:
    """A worker that stood still past its lease goes on with a heartbeat, while another one has its job."""
    stage.job()
    claim = stage.first.must_claim("default")
    stage.first.run(claim)
    stage.second.reclaim("default")
    other = stage.second.must_claim("default")
    Registration("first", ["default"], {}).beat(
        stage.client,
        leases={"default": [claim.member]},
        lease_s=LEASE_S,
        state="busy",
        current_job=None,
        size=1,
        within=Range(1, 1),
        busy=1,
        memory_bytes=1,
    )
    stage.first.finish(claim, 5)
    stage.second.finish(other, stage.second.run(other))


def failing_job(stage: Stage) -> None:
    """A job fails as often as it is to, and its worker is killed before one of the attempts."""
    stage.job(samples.fail_times, 2, "x", expected=3, failures=2)
    stage.first.work("default")
    stage.first.promote()
    stage.first.must_claim("default")
    stage.second.reclaim("default")
    stage.first.work("default")


def warm_stop(stage: Stage) -> None:
    """A worker that is told to stop hands back what it has not begun."""
    stage.job()
    ending.release(stage.client, stage.first.must_claim("default"), time.time())


def dead_letter(stage: Stage) -> None:
    """A job fails for good."""
    calling.enqueue(stage.client, sample_tasks.refuse.spec("no"), now=time.time())
    stage.first.work("default")


@task(name="planted.need")
def need(file: str) -> int:
    """Fails for good unless there is the file."""
    if not Path(file).exists():
        raise Planned("not yet")
    return 5


def redrive(stage: Stage) -> None:
    """A dead letter is redriven, the answer is lost, and it is redriven again."""
    with TemporaryDirectory() as folder:
        numbers = itertools.count()

        def dead() -> str:
            file = Path(folder, str(next(numbers)))
            job_id = stage.job(need, str(file), failures=1)
            stage.first.work_off("default")
            file.touch()
            return job_id

        stage.killed_everywhere(dead, lambda job_id: dead_letters.redrive(stage.client, job_id))
        for job_id in stage.client.zrange(keys.DEAD, 0, -1):
            for _ in range(2):
                with suppress(NotFound):
                    dead_letters.redrive(stage.client, job_id.decode())
        stage.first.work_off("default")


def delayed_job(stage: Stage) -> None:
    """A scheduler is killed anywhere in a look for due jobs."""

    def promote(_job: str) -> None:
        Promotion(stage.client, lambda *_: {}, Foreign(stage.client).due).tick(time.time() + 60)

    stage.killed_everywhere(partial(stage.job, due_in_s=30.0), promote)


def periodic_job(stage: Stage) -> None:
    """A scheduler is killed anywhere while it fires a periodic job, and the next one leads."""
    table, times = Periodic("tick", tick, every_s=60), itertools.count(int(time.time()) // 60 * 60 + 60, 60)
    PeriodicFloor(stage.client, table).register(time.time())

    def fire(now: int) -> None:
        PeriodicFloor(stage.client, table).promote(now)

    def next_fire() -> int:
        """The scheduler that leads now makes up for the last one."""
        now = next(times)
        stage.first.work_off("ticks")
        PeriodicFloor(stage.client, table).promote(now - 30)
        stage.first.work_off("ticks")
        return now

    stage.killed_everywhere(next_fire, fire)
    stage.first.work_off("ticks")


def killed_count(stage: Stage) -> None:
    """A worker is killed anywhere in counting."""
    stage.killed_everywhere(stage.entry, lambda _entry: stage.first.work("entries"))


def repeated_entry(stage: Stage) -> None:
    """The answer to an event is lost, and it is sent again."""
    stage.entry()


def accepted_order(stage: Stage) -> None:
    """The answer to an order is lost, and it is sent again."""
    stage.order()


def killed_order(stage: Stage) -> None:
    """A worker is killed anywhere in each step of an order."""

    def work(_order: str, queue: str) -> bool:
        return stage.first.work(queue)

    for queue in ("picking", "packing", "delivery"):
        stage.killed_everywhere(partial(_before, stage, queue), partial(work, queue=queue))


def zombie_order(stage: Stage) -> None:
    """A worker stands still past its lease anywhere in each step of an order, which goes on without it."""
    for queue in ("picking", "packing", "delivery"):
        stage.overtaken_everywhere(
            partial(_before, stage, queue), queue, lambda _order: stage.second.work_off("picking", "packing", "delivery")
        )


def lost_booking(stage: Stage) -> None:
    """The carrier books and its answer is lost."""
    stage.carrier.tell(mode="lose_reply", times=1)
    _at_delivery(stage)
    stage.first.work("delivery")


def cancelled_order(stage: Stage) -> None:
    """An order is cancelled when its stock is reserved."""
    stage.cancel(_before(stage, "packing"))


def cancelled_delivery(stage: Stage) -> None:
    """An order is cancelled while its parcel is being booked."""
    order_id = _at_delivery(stage)
    stage.cancel(order_id)
    stage.first.work("delivery")


def _at_delivery(stage: Stage) -> str:
    return _before(stage, "delivery")


def _before(stage: Stage, queue: str) -> str:
    """A new order, whose job of this queue is ready."""
    order_id = stage.order()
    for step in ("picking", "packing", "delivery"):
        if step == queue:
            break
        stage.second.work_off(step)
    return order_id


SCENES: dict[str, Callable[[Stage], None]] = {
    scene.__name__: scene
    for scene in (
        killed_job, zombie_job, zombie_heartbeat, failing_job, warm_stop, dead_letter, redrive, delayed_job, periodic_job,
        killed_count, repeated_entry, accepted_order, killed_order, zombie_order, lost_booking,
        cancelled_order, cancelled_delivery,
    )
}  # fmt: skip


def main() -> None:
    """Plays the named scenes, or all."""
    with TemporaryDirectory() as folder, theatre(Path(folder)) as play:
        found = {name: [f"{v.kind} {v.id}: {v.reason}" for v in play(name, SCENES[name])] for name in sys.argv[1:] or SCENES}
    print(msgspec.json.encode({"product": str(Path(jobs.__file__).parents[1]), "found": found}).decode())


if __name__ == "__main__":
    main()
