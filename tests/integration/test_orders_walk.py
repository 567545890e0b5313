"""Random walks through the whole life of orders: workers that stall, die and come back, operators, a careless tool beside us.

After every move the books are checked: legal paths, one status an order, its indexes, stock that neither leaks nor
becomes negative. At the end everything is set going again, and every order must have come to its end, delivered at
most once.
"""

import time
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import redis
from carriers import Carrier
from hands import Hands
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from mall_floor import Floor

from jobs import keys
from jobs.errors import Conflict, NotFound, Permanent
from jobs.mall import reconcile, reports
from jobs.mall.orders import ENDED
from jobs.queue import dead_letters, ending
from jobs.queue.ending import Claim

QUEUES = ("picking", "packing", "delivery")
SKUS = ("A", "B", "untracked")
EXAMPLES = 12
STEPS = 40


class Walk(RuleBasedStateMachine):
    """One walk. `claims` are jobs in workers' hands, some of them long reclaimed by others."""

    client: redis.Redis
    hands: Hands
    floor: Floor
    carrier: Carrier

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.carrier.tell(mode="ok")
        self.orders: list[str] = []
        self.claims: list[Claim] = []

    # --- clients ---

    @rule(
        lines=st.lists(st.tuples(st.sampled_from(SKUS), st.integers(1, 4)), min_size=1, max_size=3),
        delayed=st.sampled_from([None, None, 60.0]),
    )
    def accept(self, lines: list[tuple[str, int]], delayed: float | None) -> None:
        self.orders.append(self.floor.order(*lines, countdown_s=delayed))

    @rule(sku=st.sampled_from(SKUS[:2]), on_hand=st.integers(0, 8))
    def put(self, sku: str, on_hand: int) -> None:
        try:
            self.floor.put(sku, on_hand)
        except Conflict:
            assert self.floor.stock(sku)[1] > on_hand

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        order_id = data.draw(st.sampled_from(self.orders))
        try:
            self.floor.cancel(order_id)
        except Conflict as conflict:
            assert conflict.status == self.floor.status(order_id)
        except NotFound:
            assert not self.client.exists(keys.order(order_id))

    # --- workers ---

    @rule(queue=st.sampled_from(QUEUES))
    def work(self, queue: str) -> None:
        self.hands.work(queue)

    @rule(queue=st.sampled_from(QUEUES))
    def claim(self, queue: str) -> None:
        claim = self.hands.claim(queue)
        if claim is not None:
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def run(self, data: st.DataObject) -> None:
        try:
            self.hands.run(data.draw(st.sampled_from(self.claims)))
        except Exception:  # noqa: BLE001  the attempt fails in `end`, or its worker is never heard of again
            return

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), how=st.sampled_from(["finish", "retry", "bury", "release"]))
    def end(self, data: st.DataObject, how: str) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        endings: dict[str, Callable[[], object]] = {
            "finish": lambda: self.hands.finish(claim),
            "retry": lambda: self.hands.fail(claim, ValueError("no")),
            "bury": lambda: self.hands.fail(claim, Permanent("no")),
            "release": lambda: ending.release(self.client, claim, time.time()),
        }
        endings[how]()

    @rule(mode=st.sampled_from(["ok", "fail", "lose_reply", "reject"]))
    def change_the_carrier(self, mode: str) -> None:
        self.carrier.tell(mode=mode)

    # --- the scheduler ---

    @rule(queue=st.sampled_from(QUEUES))
    def reclaim(self, queue: str) -> None:
        for member in self.hands.reclaim(queue)[1]:
            ending.bury_crashed(self.client, queue, member, time.time())

    @rule()
    def promote(self) -> None:
        self.hands.promote(*QUEUES)

    @rule()
    def reconcile(self) -> None:
        reconcile.reconcile(self.client, now=time.time() + 100, after_s=1.0)

    @rule()
    def clean_up(self) -> None:
        for status in sorted(ENDED):
            reports._archive(self.client, status, time.time())

    # --- operators ---

    @rule(data=st.data(), what=st.sampled_from([dead_letters.redrive, dead_letters.discard]))
    def handle_a_dead_letter(self, data: st.DataObject, what: Callable[[redis.Redis, str], None]) -> None:
        letters = sorted(job_id.decode() for job_id in self.client.zrange(keys.DEAD, 0, -1))
        if letters:
            job_id = data.draw(st.sampled_from(letters))
            try:
                what(self.client, job_id)
            except NotFound:
                assert not any(self.client.zscore(keys.failed(queue), job_id) for queue in QUEUES)

    @rule(queue=st.sampled_from(QUEUES))
    def requeue_with_rq(self, queue: str) -> None:
        for job_id in self.client.zrange(keys.failed(queue), 0, 0):
            self.client.zrem(keys.failed(queue), job_id)
            self.client.hset(keys.job(job_id.decode()), "status", "queued")
            self.client.rpush(keys.queue(queue), job_id)

    @rule(queue=st.sampled_from(QUEUES))
    def empty_a_queue_with_rq(self, queue: str) -> None:
        for job_id in self.client.lrange(keys.queue(queue), 0, -1):
            self.client.delete(keys.job(job_id.decode()))
        self.client.delete(keys.queue(queue))

    @rule(queue=st.sampled_from(QUEUES))
    def delete_a_running_job_with_rq(self, queue: str) -> None:
        for member in self.client.zrange(keys.wip(queue), 0, 0):
            self.client.delete(keys.job(member.decode().partition(":")[0]))

    # --- what must hold ---

    @invariant()
    def the_books_are_right(self) -> None:
        self.floor.check_books()

    def teardown(self) -> None:
        self.carrier.tell(mode="ok")
        for _ in range(12):
            self.reconcile()
            for queue in QUEUES:
                self.reclaim(queue)
            self.promote()
            self.hands.work_off(*QUEUES)
            self.floor.check_books()
        for order_id in self.orders:
            self._check_the_end(order_id)
        for queue in QUEUES:
            assert not self.client.exists(keys.queue(queue), keys.wip(queue), keys.scheduled(queue)), queue
        assert not self.client.exists(keys.PICK_BUFFER, keys.PICK_JOB, keys.ORDERS_OPEN)

    def _check_the_end(self, order_id: str) -> None:
        booked = len(self.carrier.bookings(order_id))
        path = self.floor.history(order_id)
        assert booked <= 1
        assert path[-1] in ENDED, f"{order_id}: {' -> '.join(path)}"
        assert booked == 1 or path[-1] != "delivered"
        dead_job = self.client.hget(keys.order(order_id), "dead_job")
        if dead_job is not None:
            assert dead_letters.get(self.client, dead_job.decode()), "nothing leads from the dead order to its job"


@pytest.mark.timeout(170)
def test_orders_keep_to_their_paths_and_stock_adds_up_on_every_walk(
    redis_client: redis.Redis, hands: Hands, floor: Floor, near_carrier: Carrier
) -> None:
    class Here(Walk):
        client = redis_client

    Here.hands, Here.floor, Here.carrier = hands, floor, near_carrier
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],  # a walk that fails is shown as it was: making it shorter would take minutes
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
