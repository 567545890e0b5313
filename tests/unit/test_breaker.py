"""How a breaker is declared, and which of the carrier's answers count against it."""

import math
from typing import Any

import pytest

from jobs.errors import CarrierError, Permanent, RetryAfter
from jobs.mall import carrier
from jobs.queue.breaker import MAX_S, Breaker


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a:b"},
        {"name": "a" * 65},
        {"failure_rate": 0.0},
        {"failure_rate": 1.01},
        {"failure_rate": math.nan},
        {"min_calls": 0},
        {"probes": 0},
        {"window_s": 0.0},
        {"open_s": -1.0},
        {"probe_lease_s": math.nan},
        {"max_open_s": math.inf},
        {"window_s": MAX_S + 1},
        {"open_s": 20.0, "max_open_s": 10.0},
    ],
)
def test_a_breaker_that_cannot_work_is_refused_when_it_is_declared(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needed"):
        Breaker(**{"name": "downstream", "trips_on": lambda _error: True, **wrong})


def asked_to_wait(status: int) -> RetryAfter:
    error = RetryAfter(3.0, "later")
    error.__cause__ = CarrierError("no", status)
    return error


@pytest.mark.parametrize("status", [408, 425, 500, 503, 599])
def test_an_answer_of_a_broken_carrier_trips_its_breaker_whether_or_not_it_says_when_to_come_back(status: int) -> None:
    assert carrier.is_down(CarrierError("no", status))
    assert carrier.is_down(asked_to_wait(status))


def test_no_answer_trips_the_carriers_breaker() -> None:
    assert carrier.is_down(CarrierError("ConnectError: refused"))


@pytest.mark.parametrize(
    "error",
    [
        CarrierError("slow down", 429),
        asked_to_wait(429),
        CarrierError("unreadable answer", 200),
        Permanent("no"),
        ValueError("x"),
    ],
)
def test_what_says_nothing_about_the_carriers_health_does_not_trip_its_breaker(error: Exception) -> None:
    assert not carrier.is_down(error)
