"""Retries and dead letters as a client and an operator meet them, with a carrier that fails in every documented way."""

import time
from collections.abc import Iterator

import pytest
from system import System

from jobs import keys


@pytest.fixture(scope="module")
def system(build: object) -> System:
    made: System = build(TURNSTILE_STEP_MAX_ATTEMPTS="3")  # type: ignore[operator]  # the fixture of conftest.py
    made.start()
    made.ask("GET", "/readyz")
    return made


@pytest.fixture(autouse=True)
def _behave(system: System) -> Iterator[None]:
    system.carrier.tell(mode="ok")
    yield
    system.carrier.tell(mode="ok")


def deliveries(order: dict[str, object]) -> list[dict[str, object]]:
    attempts = order["attempts"]
    assert isinstance(attempts, list)
    return [attempt for attempt in attempts if attempt["step"] == "deliver"]


def test_a_failing_carrier_is_asked_again_and_the_errors_stay_on_the_order(system: System) -> None:
    system.carrier.tell(mode="fail", status=503, times=2)
    order = system.until(system.order("fails-twice"), "delivered")
    assert [attempt["attempt"] for attempt in deliveries(order)] == [1, 2, 3]
    assert ["503" in str(attempt.get("error")) for attempt in deliveries(order)] == [True, True, False]
    assert all(attempt["worker"] and attempt["ended_at"] for attempt in order["attempts"])


def test_an_answer_that_got_lost_books_nothing_twice(system: System) -> None:
    system.carrier.tell(mode="lose_reply", times=1)
    order_id = system.order("reply-lost")
    order = system.until(order_id, "delivered")
    assert len(deliveries(order)) == 2
    bookings = system.carrier.bookings(order_id)
    assert [booking["tracking_number"] for booking in bookings] == [order["tracking_number"]]


def test_a_carrier_that_stalls_is_given_up_on_and_asked_again(system: System) -> None:
    system.carrier.tell(mode="stall", delay_s=4, times=1)
    order_id = system.order("stalls")
    order = system.until(order_id, "delivered")
    assert "Timeout" in str(deliveries(order)[0]["error"])
    assert len(system.carrier.bookings(order_id)) == 1


def test_retry_after_is_honoured(system: System) -> None:
    system.carrier.tell(mode="fail", status=429, retry_after_s=2, times=1)
    order = system.until(system.order("retry-after"), "delivered")
    first, second = deliveries(order)
    assert float(str(second["started_at"])) - float(str(first["ended_at"])) >= 2.0


def test_a_permanent_refusal_is_a_dead_letter_at_once_and_redrive_goes_on_at_delivery(system: System) -> None:
    system.carrier.tell(mode="reject", status=422)
    order_id = system.order("refused")
    order = system.until(order_id, "dead")
    assert len(deliveries(order)) == 1 and "422" in order["reason"]
    page = system.ask("GET", "/v1/dead-letters").json()
    letter = next(letter for letter in page["dead_letters"] if letter["id"] == f"{order_id}-deliver")
    assert (letter["task"], letter["error_type"], letter["queue"]) == ("orders.deliver", "Permanent", "delivery")
    assert letter["attempts"][0]["traceback"]
    assert letter["group"] in [group["group"] for group in page["groups"]]
    assert system.redis.zscore(keys.failed("delivery"), letter["id"]) == float("inf"), "it never expires"
    assert system.ask("POST", f"/v1/orders/{order_id}/cancel").status_code == 409
    system.carrier.tell(mode="ok")
    assert system.ask("POST", f"/v1/dead-letters/{letter['id']}/redrive").status_code == 202
    order = system.until(order_id, "delivered")
    assert [attempt["step"] for attempt in order["attempts"]] == ["pick", "pack", "deliver", "deliver"]
    assert "reason" not in order
    assert system.ask("POST", f"/v1/dead-letters/{letter['id']}/redrive").status_code == 404


def test_the_last_attempt_goes_to_the_dead_letters_and_a_group_is_redriven_together(system: System) -> None:
    system.carrier.tell(mode="fail", status=500)
    orders = [system.order(f"group-{number}") for number in range(5)]
    for order_id in orders:
        order = system.until(order_id, "dead")
        assert len(deliveries(order)) == 3
    groups = system.ask("GET", "/v1/dead-letters").json()["groups"]
    group = next(group for group in groups if group["count"] == len(orders))
    system.carrier.tell(mode="ok")
    answer = system.ask("POST", "/v1/dead-letters/redrive", json={"group": group["group"], "rate_per_s": 10})
    assert answer.json()["redriven"] == len(orders)
    for order_id in orders:
        assert len(system.carrier.bookings(system.until(order_id, "delivered")["id"])) == 1
    assert system.ask("GET", answer.headers["location"]).json()["done"] == len(orders)
    assert system.ask("GET", "/v1/dead-letters").json()["count"] == 0


def test_discard_ends_an_order_for_good_and_gives_its_stock_back(system: System) -> None:
    system.ask("PUT", "/v1/stock/21730", json={"on_hand": 10})
    system.carrier.tell(mode="reject")
    order_id = system.order("discarded", sku="21730", quantity=4)
    system.until(order_id, "dead")
    assert system.ask("GET", "/v1/stock/21730").json()["available"] == 6
    assert system.ask("POST", f"/v1/dead-letters/{order_id}-deliver/discard").status_code == 200
    assert system.look(order_id)["status"] == "dead"
    assert system.ask("GET", "/v1/stock/21730").json() == {"sku": "21730", "on_hand": 10, "reserved": 0, "available": 10}
    assert system.ask("GET", f"/v1/dead-letters/{order_id}-deliver").status_code == 404


def test_a_delayed_order_waits_in_redis_and_can_be_cancelled(system: System) -> None:
    started = time.time()
    order_id = system.order("delayed", countdown_s=1.5)
    cancelled = system.order("delayed-cancelled", countdown_s=1.5)
    assert system.look(order_id)["due_at"] >= started + 1.5
    assert f"{order_id}-start" in [job["id"] for job in system.ask("GET", "/v1/scheduled").json()["scheduled"]]
    assert system.ask("POST", f"/v1/orders/{cancelled}/cancel").json()["status"] == "cancelled"
    order = system.until(order_id, "delivered")
    assert order["attempts"][0]["started_at"] >= started + 1.5
    assert system.look(cancelled)["status"] == "cancelled"
    assert system.redis.exists(keys.job(f"{cancelled}-start")) == 0


def test_an_order_can_be_followed_until_its_end(system: System) -> None:
    order_id = system.order("followed", countdown_s=0.5)
    with system.http.stream("GET", f"/v1/orders/{order_id}/events") as stream:
        seen = [line for line in stream.iter_lines() if line.startswith("data: ")]
    statuses = [line.split('"status":"')[1].split('"')[0] for line in seen]
    assert statuses[0] in ("scheduled", "accepted") and statuses[-1] == "delivered"


def test_an_unchanged_order_is_not_sent_again(system: System) -> None:
    order_id = system.order("etag")
    system.until(order_id, "delivered")
    answer = system.ask("GET", f"/v1/orders/{order_id}")
    again = system.ask("GET", f"/v1/orders/{order_id}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    slip = system.ask("GET", f"/v1/orders/{order_id}/slip").json()
    assert (slip["items"], slip["lines"][0]["sku"]) == (6, "85123A") and slip["weight_g"] > 0
    page = system.ask("GET", f"/v1/orders/{order_id}/slip", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html") and "85123A" in page.text
