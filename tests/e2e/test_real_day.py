"""The main job on the real data: 400 orders and the busiest day of footfall, dirt included, end correctly."""

from processes import wait_for
from system import System

from jobs import keys
from jobs.commands import demo
from jobs.demo import sample
from jobs.mall.orders import TRANSITIONS, Status

BUSIEST_DAY = "2005-11-01"


def test_the_demo_adds_up(system: System) -> None:
    assert demo.main(["--url", system.url, "--day", BUSIEST_DAY, "--speed", "20000"]) == 0


def test_every_shared_order_is_delivered_once_or_refused_for_its_quantity(system: System) -> None:
    accepted: list[str] = []
    for order in sample.orders():
        headers = {"Idempotency-Key": f"again-{order.reference}", "Content-Type": "application/json"}
        answer = system.ask("POST", "/v1/orders", content=order.body, headers=headers)
        assert answer.status_code == (422 if order.refusable else 202), answer.text
        if order.refusable:
            refused = {error["field"]: error["reason"] for error in answer.json()["errors"]}
            assert all(field.endswith(".quantity") and "must lie between 1 and" in why for field, why in refused.items())
            assert len(refused) == sum(line.quantity <= 0 for line in order.lines)
        else:
            accepted.append(answer.json()["id"])
    wait_for(lambda: system.redis.zcard(keys.ORDERS_OPEN) == 0, 60, "no order is open")
    for order_id in accepted:
        view = system.look(order_id)
        assert view["status"] == "delivered" and view["tracking_number"]
        assert [attempt["step"] for attempt in view["attempts"]] == ["pick", "pack", "deliver"]
        assert len(system.carrier.bookings(order_id)) == 1


def test_orders_in_are_the_sum_of_all_states(system: System) -> None:
    states = {status: system.redis.zcard(keys.STATUS_PREFIX + status) for status in Status}
    assert sum(states.values()) == system.redis.zcard(keys.ORDERS) > 0


def test_every_order_took_a_legal_path(system: System) -> None:
    at: dict[bytes, Status] = {}
    events = system.redis.xrange(keys.EVENTS)
    assert events
    for _entry_id, event in events:
        order_id, status = event[b"order"], Status(event[b"status"].decode())
        if order_id in at:
            assert status in TRANSITIONS[at[order_id]], f"{order_id!r}: {at[order_id]} to {status}"
        else:
            assert status in (Status.ACCEPTED, Status.SCHEDULED)
        at[order_id] = status


def test_every_page_of_the_order_list_leads_to_the_next(system: System) -> None:
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = system.ask("GET", "/v1/orders", params={"limit": 100, "status": "delivered", **cursor}).json()
        found += [order["id"] for order in page["orders"]]
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(found) == len(set(found)) == system.redis.zcard(keys.STATUS_PREFIX + "delivered")
