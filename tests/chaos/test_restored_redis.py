"""A Redis that is two seconds older in mid-traffic: what it still knows ends as it should; what it forgot can be repeated.

The times are those of the defaults: leases, reconciling, retries. `TEST_RESTORE_SEEDS=1,2,3 TEST_RESTORE_LIMIT_S=15` makes a
measurement of it.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import invariants
import pytest
import redis
from carriers import Carrier
from processes import Processes, wait_for
from restorable import Restorable
from shoppers import ON_HAND, TRACKED_SKU, Said, Shoppers
from system import System

from jobs import keys
from jobs.queue import canvas_store
from jobs.queue.overview import queue_names
from jobs.queue.samples import sum_up

SEEDS = [int(seed) for seed in os.environ.get("TEST_RESTORE_SEEDS", "20101201").split(",")]
LIMIT_S = float(os.environ.get("TEST_RESTORE_LIMIT_S", "60"))
PATIENCE_S = 60.0
LOST_S = 2.0
ORDERS_BEFORE, ORDERS_AFTER = (20, 60), 10
PARCEL_S = 10.0
"""The carrier's time-out: so much later a worker may come to the end of a booking that it began in what was forgotten."""
CARRIER_TAKES_S = 0.1
"""So that parcels are being booked at the copy, and at the server's death."""
CANVAS_RESULT = [6, 7, 8, 9]
DEFAULTS = {
    "TURNSTILE_LEASE_S": "4",
    "TURNSTILE_RECONCILE_AFTER_S": "10",
    "TURNSTILE_BACKOFF_BASE_S": "1",
    "TURNSTILE_BACKOFF_CAP_S": "300",
    "TURNSTILE_CARRIER_TIMEOUT_S": "10",
}
"""In place of those that let other tests of a whole system be quick."""


@pytest.fixture
def system(processes: Processes, free_port: int, carrier: Carrier) -> Iterator[System]:
    """The Procfile's processes, as they are run, and a second scheduler."""
    server = Restorable()
    server.start()
    made = System(server, processes, carrier, free_port, **DEFAULTS, TURNSTILE_SAMPLES="1")
    made.add("scheduler2", *made.commands["scheduler"])
    made.start()
    made.ask("GET", "/readyz")
    yield made
    made.close()


@dataclass(frozen=True, slots=True)
class Window:
    """What was answered after its beginning and sent before its end (monotonic) may be forgotten; `booked`: in Unix seconds."""

    began_at: float
    ended_at: float
    booked: tuple[float, float]

    def may_hold(self, said: Said) -> bool:
        """Whether the answer may have been forgotten."""
        return said.answered_at >= self.began_at and said.asked_at <= self.ended_at


def go_back(system: System, chance: random.Random) -> Window:
    """Lets the server forget the last two seconds, and kills one of the other processes or none, as an outage may."""
    assert isinstance(system.server, Restorable)
    began_at, began = time.monotonic(), time.time()
    system.server.remember()
    wait_for(lambda: time.monotonic() > began_at + LOST_S, PATIENCE_S, "the time to be forgotten has passed")
    system.server.go_back()
    window = Window(began_at, time.monotonic(), (began, time.time()))
    victim = chance.choice(["", *sorted(system.commands)])
    if victim:
        system.kill(victim)
    return window


def convergence(client: redis.Redis) -> Callable[[], bool]:
    """Tells, when it is asked again, whether everything that is under way now has come to its end."""
    accepted = int(client.hget(keys.ENTRIES, "accepted") or 0)
    orders, canvases = set(client.zrange(keys.ORDERS_OPEN, 0, -1)), set(client.zrange(keys.CANVASES_OPEN, 0, -1))
    items = set(client.smembers(keys.batch_ids(sum_up.name)))
    queues = queue_names(client)
    leases = {(queue, member) for queue in queues for member in client.zrange(keys.wip(queue), 0, -1)}

    def converged() -> bool:
        return not (
            orders.intersection(client.zrange(keys.ORDERS_OPEN, 0, -1))
            or canvases.intersection(client.zrange(keys.CANVASES_OPEN, 0, -1))
            or items.intersection(client.smembers(keys.batch_ids(sum_up.name)))
            or any(client.zscore(keys.wip(queue), member) for queue, member in leases)
            or int(client.hget(keys.ENTRIES, "counted") or 0) < accepted
        )

    return converged


def check_parcels(known: dict[str, invariants.Hash], lost: set[str], window: Window, carrier: Carrier, since: float) -> None:
    """I3: a delivered order has one parcel, which it knows; another one has none, unless it was booked in what was forgotten."""
    parcels = httpx.get(f"{carrier.url}/shipments", trust_env=False, timeout=10).json()["shipments"]
    parcels = [parcel for parcel in parcels if parcel["booked_at"] >= since]
    by_order = {parcel["shipment"]["order_id"]: parcel for parcel in parcels}
    assert len(by_order) == len(parcels), "one parcel for each order"
    for order_id, fields in known.items():
        parcel = by_order.pop(order_id, None)
        if fields["status"] == "delivered":
            assert parcel is not None and parcel["tracking_number"] == fields["tracking_number"]
        elif parcel is not None:
            assert window.booked[0] <= parcel["booked_at"] <= window.booked[1] + PARCEL_S, (order_id, fields, parcel)
    assert by_order.keys() <= lost, "parcels of orders that nobody has sent"


def check_all(system: System, shoppers: Shoppers, window: Window | None, carrier: Carrier, since: float) -> set[str]:
    """Every invariant; returns the ids of the orders that were forgotten, which must lie in the window."""
    client = system.redis
    known = invariants.orders(client)
    invariants.check_orders(client, known)
    invariants.check_stock(client, known, TRACKED_SKU, ON_HAND)
    invariants.check_entries(client)
    invariants.check_indexes(client)
    assert all(accepted == counted + pending for accepted, counted, pending in shoppers.sums)

    def forgotten(said: Said) -> bool:
        return window is not None and window.may_hold(said)

    missing = [said for said in shoppers.of("order") if said.answer["id"] not in known]
    assert all(map(forgotten, missing)), "an order was lost that had been answered outside the window"
    for said in shoppers.of("canvas"):
        if not (forgotten(said) and not client.exists(keys.canvas(said.answer))):
            view = canvas_store.get(client, said.answer)
            assert (view.status, view.result, view.failed) == ("finished", CANVAS_RESULT, 0)
    for said in shoppers.of("item"):
        if not (forgotten(said) and not client.exists(keys.job(said.answer))):
            assert client.hget(keys.job(said.answer), "status") == b"finished"
    counted = system.ask("GET", "/v1/footfall", params={"bucket": "day"}).json()["totals"]["in"]
    people = {said: int(said.request.key) for said in shoppers.of("entries")}
    sure = sum(number for said, number in people.items() if not forgotten(said))
    assert sure <= counted <= sum(people.values())
    lost = {said.answer["id"] for said in missing}
    if window is not None:
        check_parcels(known, lost, window, carrier, since)
    return lost


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_restored_redis_still_knows_comes_to_its_end_and_a_repeated_request_brings_back_the_rest(
    system: System, carrier: Carrier, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, client, since = random.Random(seed), system.redis, time.time()
    carrier.tell(mode="stall", delay_s=CARRIER_TAKES_S)
    system.ask("PUT", f"/v1/stock/{TRACKED_SKU}", json={"on_hand": ON_HAND})
    wait_for(lambda: client.scard(keys.WORKERS) == 5, PATIENCE_S, "all workers are there")
    shoppers = Shoppers(system)
    shoppers.start()
    goal = chance.randint(*ORDERS_BEFORE)
    wait_for(lambda: shoppers.n_answered("order") > goal, PATIENCE_S, "orders are accepted")
    window = go_back(system, chance)
    converged = convergence(client)
    wait_for(converged, LIMIT_S, "what Redis still knew has come to its end")
    took_s = time.monotonic() - window.ended_at
    goal = sum(said.answered_at > window.ended_at for said in shoppers.of("order")) + ORDERS_AFTER
    wait_for(lambda: shoppers.n_answered("order") > goal, PATIENCE_S, "orders are accepted again")
    shoppers.stop()
    wait_for(lambda: not invariants.under_way(client), PATIENCE_S, "nothing is under way")
    lost = check_all(system, shoppers, window, carrier, since)
    sent = list(shoppers.said)
    repeated = [said.request for said in sent if window.may_hold(said) and said.request.kind != "cancel"]
    shoppers.said = [said for said in sent if said.request not in repeated]
    for request in repeated:
        shoppers.ask(request)
    wait_for(lambda: not invariants.under_way(client), PATIENCE_S, "nothing is under way")
    assert check_all(system, shoppers, None, carrier, since) == set(), "what was repeated is there"
    assert all(process.runs for process in system.running.values()), "no process has ended"
    with capsys.disabled():
        print(f"\nseed {seed}: {len(lost)} orders forgotten, converged in {took_s:.1f} s, {len(repeated)} requests repeated")
