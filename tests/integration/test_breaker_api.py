"""Circuit breakers as operators meet them: over the API, with an audit entry, and in the metrics."""

import time
from collections.abc import Iterator

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from web_site import serving

from jobs import keys
from jobs.errors import CircuitOpen
from jobs.queue.breaker import Breaker, Outcome
from jobs.settings import Settings

DOWN = Breaker("down", trips_on=lambda _error: True, min_calls=2)
WELL = Breaker("well", trips_on=lambda _error: True)


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


@pytest.fixture
def opened_at(redis_client: redis.Redis) -> float:
    """One breaker is open and has refused a call, another has let one through."""
    now = time.time()
    for number in range(2):
        DOWN.ask(redis_client, str(number), now)
    for number in range(2):
        DOWN.report(redis_client, str(number), Outcome.FAILED, now)
    with pytest.raises(CircuitOpen):
        DOWN.ask(redis_client, "refused", now)
    WELL.ask(redis_client, "1", now)
    WELL.report(redis_client, "1", Outcome.SUCCEEDED, now)
    return now


def breaker_metrics(site: httpx.Client) -> dict[tuple[str, ...], float]:
    """(name, label values ...) -> value."""
    families = text_string_to_metric_families(site.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if "breaker" in sample.name]
    return {(sample.name.removeprefix("turnstile_breaker_"), *sample.labels.values()): sample.value for sample in samples}


def test_every_breaker_is_listed_with_its_state(site: httpx.Client, opened_at: float) -> None:
    down, well = site.get("/v1/breakers").json()["breakers"]
    assert down == {
        "name": "down",
        "state": "open",
        "failures": 2,
        "calls": 2,
        "opened_at": opened_at,
        "retry_at": opened_at + 10.0,
        "opened": 1,
        "calls_total": 2,
        "failures_total": 2,
        "refused_total": 1,
    }
    assert (well["name"], well["state"], well["calls"], well["opened_at"]) == ("well", "closed", 1, None)


def test_a_reset_closes_the_circuit_and_is_in_the_audit_trail(
    site: httpx.Client, redis_client: redis.Redis, opened_at: float
) -> None:
    answer = site.post("/v1/breakers/down/reset")
    assert (answer.status_code, answer.json()) == (200, {"target": "down", "action": "reset"})
    assert [found["state"] for found in site.get("/v1/breakers").json()["breakers"]] == ["closed", "closed"]
    DOWN.ask(redis_client, "again", opened_at)
    [(_id, entry)] = redis_client.xrange(keys.AUDIT)
    assert (entry[b"what"], entry[b"target"]) == (b"reset breaker", b"down")


def test_a_breaker_that_nobody_knows_cannot_be_reset(site: httpx.Client, redis_client: redis.Redis) -> None:
    assert site.post("/v1/breakers/nobody/reset").status_code == 404
    assert not redis_client.exists(keys.AUDIT)


def test_the_metrics_tell_state_openings_and_calls(site: httpx.Client, opened_at: float) -> None:
    found = breaker_metrics(site)
    assert {key[1:]: value for key, value in found.items() if key[0] == "state"} == {
        ("down", "closed"): 0,
        ("down", "half_open"): 0,
        ("down", "open"): 1,
        ("well", "closed"): 1,
        ("well", "half_open"): 0,
        ("well", "open"): 0,
    }
    assert {key: value for key, value in found.items() if key[0] != "state"} == {
        ("openings_total", "down"): 1,
        ("openings_total", "well"): 0,
        ("calls_total", "down"): 2,
        ("calls_total", "well"): 1,
        ("failures_total", "down"): 2,
        ("failures_total", "well"): 0,
        ("refused_total", "down"): 1,
        ("refused_total", "well"): 0,
    }
