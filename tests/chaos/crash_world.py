"""Where crash points are tried: a mall, what dies in it, and what brings the work to its end afterwards."""

import base64
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import invariants
import msgspec
import redis
from asking import Ask
from carriers import Carrier
from doomed import die_at
from hands import Hands
from mall_floor import Floor
from receivers_told import Receiver

from jobs import connections, keys
from jobs.commands.doctor import examined
from jobs.mall.reconcile import reconcile
from jobs.queue import canvas_store
from jobs.queue.orphans import Walk
from jobs.queue.overview import queue_names
from jobs.queue.periodic import Periodic
from jobs.queue.worker import Worker
from jobs.settings import Settings
from scheduler.duty import Duty
from scheduler.reclaim import Reclamation
from scheduler.scheduler import TurnstileScheduler

STEP_S = 6.0
"""Of the recovery's clock: more than a lease, and than what the sweep waits."""
RECONCILE_AFTER_S = 10.0
QUIET_ROUNDS, MAX_ROUNDS = 3, 40
"""Three rounds are longer than anything waits before it is looked at."""
STEPS = ("picking", "packing", "delivery")


@dataclass
class World:
    """One test's mall. `now` is the clock of the recovery, which runs ahead of the world's."""

    client: redis.Redis
    url: str
    settings: Settings
    hands: Hands
    floor: Floor
    ask: Ask
    carrier: Carrier
    receiver: Receiver
    table: tuple[Periodic, ...] = ()
    dead_letters_max: int = 100_000
    now: float = field(default_factory=time.time)

    def worker(self, kind: Callable[..., Worker], *queues: str) -> Callable[[], object]:
        """A worker that works until nothing is ready."""
        return lambda: kind(list(queues), connection=connections.connect(self.url)).work(burst=True)

    def duties(self) -> Sequence[Duty]:
        """The scheduler's; all leases may be taken for run out when they have."""
        scheduler = TurnstileScheduler(
            connection=self.client,
            table=self.table,
            reconcile=lambda now: [
                *reconcile(self.client, now=now, after_s=RECONCILE_AFTER_S),
                *canvas_store.reconcile(self.client, now=now, after_s=RECONCILE_AFTER_S),
            ],
            dead_letters_max=self.dead_letters_max,
        )
        return [*scheduler._duties[:-1], Reclamation(self.client)]

    def schedule(self) -> None:
        """What a scheduler does in some rounds."""
        duties, self.now = self.duties(), max(self.now, time.time())
        for number in range(1, 2 * QUIET_ROUNDS):
            for duty in duties:
                duty.tick(self.now + number * STEP_S)

    def recover(self) -> None:
        """Scheduler and worker, until there is nothing left to do."""
        duties, quiet, self.now = self.duties(), 0, max(self.now, time.time())
        for worker in self.client.smembers(keys.WORKERS):
            self.client.delete(worker)  # as the heartbeats of the dead run out
        for _ in range(MAX_ROUNDS):
            self.now += STEP_S
            done = sum(sum(duty.tick(self.now).values()) for duty in duties)
            self.hands.promote()
            done += self.hands.work_off(*queue_names(self.client))
            quiet = 0 if done else quiet + 1
            if quiet == QUIET_ROUNDS:
                return
        raise AssertionError("there is no end of it")

    def result(self, job_id: str) -> Any:
        """What the job returned, which is written once."""
        assert self.client.hget(keys.job(job_id), "status") == b"finished", self.client.hgetall(keys.job(job_id))
        [(_id, fields)] = self.client.xrange(keys.results(job_id))
        return msgspec.json.decode(base64.b64decode(fields[b"return_value"])) if b"return_value" in fields else None

    def failures(self, job_id: str) -> int:
        """Attempts that failed; a crash is none."""
        return int(self.client.hget(keys.job(job_id), "failures") or 0)

    def delivered(self, *ids: str) -> None:
        """Each is delivered, and its parcel booked once."""
        for order_id in ids:
            view = self.floor.view(order_id)
            [booking] = self.carrier.bookings(order_id)
            assert (view.status, view.tracking_number) == ("delivered", booking["tracking_number"]), view

    def books(self, *, dead: int = 0, stock: dict[str, int] | None = None, periodic: bool = False) -> None:
        """I1 to I8 once nothing is under way, and the doctor finds nothing; `dead` letters are left, `stock` was put."""
        known = invariants.orders(self.client)
        invariants.check_orders(self.client, known)
        invariants.check_entries(self.client)
        for sku, on_hand in (stock or {}).items():
            invariants.check_stock(self.client, known, sku, on_hand)
        assert self.client.zcard(keys.DEAD) == dead
        if not dead and not periodic:
            invariants.check_indexes(self.client)
        assert [f"{found.kind.name}: {found.target}" for found in examined(self.client, Walk(), lambda _s: None)] == []


Act = Callable[[World], Iterator[Callable[[], object]]]


@dataclass(frozen=True)
class Scene:
    """What is tried at these points. `act` prepares, yields what is to die, and, when that is dead, ends the work and looks."""

    act: Act
    points: tuple[str, ...]
    cpu: bool = False
    """Whether the job's own code runs in a child of the process."""

    def play(self, world: World, point: str) -> None:
        """The whole of it, with the death at the point."""
        acts = self.act(world)
        die_at(point, next(acts), in_child=self.cpu and point.partition(".")[0] in IN_CHILD)
        assert list(itertools.islice(acts, 1)) == []


IN_CHILD = ("run", "child", "step")
SCENES: dict[str, Scene] = {}
CLAIMED = "claim.asked claim.answered claim.begun beat.answered run.ready worker.leaving"
PLAIN = f"{CLAIMED} run.returned ack.asked ack.written"
"""What every job meets that ends well and belongs to nothing."""
ALONE = f"{CLAIMED} run.returned end.asked end.written"
FAILED = f"{CLAIMED} run.raised end.asked end.written"


def scene(points: str, *, cpu: bool = False) -> Callable[[Act], Act]:
    """Names the points that the function's process meets."""

    def note(act: Act) -> Act:
        if act.__name__ in SCENES:
            raise ValueError(act.__name__)
        SCENES[act.__name__] = Scene(act, tuple(points.split()), cpu)
        return act

    return note
