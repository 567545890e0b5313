"""Each process killed at the worst moment that can be arranged: nothing lost, nothing twice."""

import json
import signal
import threading
import uuid
from collections.abc import Iterator, Sized
from functools import partial

import pytest
from processes import wait_for
from system import System

from jobs import keys

SKU, ON_HAND = "22752", 1_000


@pytest.fixture(autouse=True)
def _behave(system: System) -> Iterator[None]:
    system.carrier.tell(mode="ok")
    yield
    system.carrier.tell(mode="ok")


def in_flight(system: System, order_id: str) -> str:
    """The order is being delivered: the carrier has been asked and has not answered yet. Returns the job's member."""
    job_id = f"{order_id}-deliver"

    def member() -> str:
        found = [key.decode() for key in system.redis.zrange(keys.wip("delivery"), 0, -1)]
        return next((key for key in found if key.startswith(job_id)), "")

    claimed = wait_for(member, 20, f"{job_id} is claimed")
    wait_for(lambda: system.look(order_id)["attempts"][-1]["step"] == "deliver", 20, "its attempt is open")
    return claimed


def test_a_courier_killed_while_the_carrier_acts_books_nothing_twice(system: System) -> None:
    system.carrier.tell(mode="stall", delay_s=1.0, times=1)
    order_id = system.order("courier-killed")
    in_flight(system, order_id)
    system.kill("courier")
    order = system.until(order_id, "delivered")
    delivered = [attempt for attempt in order["attempts"] if attempt["step"] == "deliver"]
    assert [attempt["attempt"] for attempt in delivered] == [1, 1], "a crash is not an attempt"
    assert delivered[0]["error"] == "the worker was lost"
    assert len(system.carrier.bookings(order_id)) == 1
    assert system.redis.hget(keys.job(f"{order_id}-deliver"), "crashes") is None


@pytest.mark.parametrize("worker", ["picker", "packer"])
def test_orders_survive_the_kill_of_a_worker_that_has_a_backlog(system: System, worker: str) -> None:
    orders = [system.order(f"{worker}-{number}") for number in range(30)]
    system.kill(worker)
    for order_id in orders:
        system.until(order_id, "delivered")
        assert len(system.carrier.bookings(order_id)) == 1


def test_delayed_orders_and_retries_wait_for_the_next_scheduler(system: System) -> None:
    system.carrier.tell(mode="fail", status=503, times=2)
    retried = system.order("waits-for-a-retry")
    delayed = system.order("waits-for-its-time", countdown_s=1.0)
    assert system.look(delayed)["status"] == "scheduled"
    assert system.redis.zscore(keys.SCHEDULED_JOBS, f"{delayed}-start") is not None
    system.kill("scheduler")
    assert system.until(delayed, "delivered")["status"] == "delivered"
    order = system.until(retried, "delivered")
    errors = [attempt.get("error", "") for attempt in order["attempts"] if attempt["step"] == "deliver"]
    assert [bool(error) for error in errors] == [True, True, False] and "503" in errors[0]
    assert len(system.carrier.bookings(retried)) == 1


def _at_least(placed: Sized, goal: int) -> bool:
    return len(placed) >= goal


def test_a_web_killed_in_mid_request_accepts_nothing_twice(system: System) -> None:
    gate = f"gate-{uuid.uuid4().hex[:6]}"
    events = [[json.dumps({"gate": gate, "event_id": f"{gate}-{body}-{line}"}) for line in range(50)] for body in range(20)]
    placed: list[str] = []

    def send() -> None:
        for number, body in enumerate(events):
            headers = {"Content-Type": "application/x-ndjson"}
            assert system.ask("POST", "/v1/entries", content="\n".join(body), headers=headers).status_code == 202
            placed.append(system.order(f"{gate}-{number}"))

    sender = threading.Thread(target=send)
    sender.start()
    for goal in (3, 8, 13):
        wait_for(partial(_at_least, placed, goal), 60, f"{goal} orders are placed")
        system.kill("web")
    sender.join(60)
    assert len(set(placed)) == len(events)
    for order_id in placed:
        system.until(order_id, "delivered")
    wait_for(lambda: system.ask("GET", "/v1/footfall/summary").json()["pending"] == 0, 30, "all events are counted")
    counted = system.ask("GET", "/v1/footfall", params={"gate": gate}).json()["totals"]
    assert counted == {"in": sum(len(body) for body in events), "out": 0}


def test_a_redis_killed_and_restarted_under_load_loses_nothing_acknowledged(system: System) -> None:
    assert system.ask("PUT", f"/v1/stock/{SKU}", json={"on_hand": ON_HAND}).status_code == 200
    workers = {name: process.pid for name, process in system.running.items()}
    orders: list[str] = []
    for round_ in range(3):
        orders += [system.order(f"redis-{round_}-{number}", sku=SKU, quantity=2) for number in range(15)]
        system.kill("redis")
    for order_id in orders:
        system.until(order_id, "delivered")
        assert len(system.carrier.bookings(order_id)) == 1
    stock = system.ask("GET", f"/v1/stock/{SKU}").json()
    assert (stock["on_hand"], stock["reserved"]) == (ON_HAND - 2 * len(orders), 0)
    assert all(system.running[name].runs and system.running[name].pid == pid for name, pid in workers.items()), "nobody exits"


def test_sigterm_lets_a_delivery_in_flight_finish(system: System) -> None:
    system.carrier.tell(mode="stall", delay_s=1.0, times=1)
    order_id = system.order("courier-stopped")
    in_flight(system, order_id)
    assert system.stop("courier") == 0
    order = system.look(order_id)
    assert order["status"] == "delivered"
    assert [attempt["step"] for attempt in order["attempts"]] == ["pick", "pack", "deliver"]
    system.start("courier")


def test_a_stock_worker_takes_over_from_ours(system: System) -> None:
    names = ("picker", "packer", "courier")
    assert [system.stop(name) for name in names] == [0, 0, 0]
    system.add("stock", "rq", "worker", "-c", "jobs.rq_config", "-w", "rq.Worker", "-S", "json", "picking", "packing", "delivery")
    system.start("stock")
    order_id = system.order("by-a-stock-worker")
    assert system.until(order_id, "delivered")["tracking_number"]
    assert len(system.carrier.bookings(order_id)) == 1
    system.running["stock"].send(signal.SIGTERM)
    system.running["stock"].ended(30)
    system.start(*names)
