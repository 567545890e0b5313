"""The operations page: the queue at work - running jobs, canvases, circuits, redrives."""

import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import page_reader
import pytest
import redis
import sample_tasks
from hands import Hands
from page_reader import MARKUP
from web_site import serving

from jobs.errors import CircuitOpen, Permanent
from jobs.queue import canvas_handle, redrives
from jobs.queue.breaker import Breaker
from jobs.queue.calling import enqueue
from jobs.queue.canvas import starmap
from jobs.queue.running import RunningJob
from jobs.settings import Settings


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def test_running_jobs_are_shown_with_their_progress_the_longest_running_first(
    site: httpx.Client, redis_client: redis.Redis, hands: Hands
) -> None:
    assert 'id="running"' not in site.get("/").text
    for number in range(25):
        enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id=f"j{number}"), now=time.time())
    claims = [hands.must_claim("default", now=time.time() - 100 + number) for number in range(25)]
    for claim, total in ((claims[0], 1_500), (claims[1], None)):
        RunningJob(claim.id, "default", 1, "w", claim.execution, redis_client).progress(1_250, total, f"of {MARKUP}")
    shown = page_reader.read(site)
    shown.check_escaped()
    assert "Running 25" in shown.text and "Shown are the 20 that have run longest." in shown.text
    assert f"1,250 of 1,500 of {MARKUP}" in shown.text
    bars = [attributes for tag, attributes in shown.elements if tag == "progress"]
    assert bars == [{"max": "1500", "value": "1250", "aria-label": "Progress of j0"}]
    rows = [attributes.get("data-key") for tag, attributes in shown.elements if tag == "tr" and "data-key" in attributes]
    assert rows[1:21] == [f"j{number}" for number in range(20)], "the first row is the queue's"


def test_an_open_circuit_is_shown_and_stands_in_a_banner(site: httpx.Client, redis_client: redis.Redis) -> None:
    breaker = Breaker("carrier", trips_on=lambda error: isinstance(error, OSError), min_calls=2)
    assert 'id="circuits"' not in site.get("/").text
    for _ in range(2):
        with suppress(OSError), breaker.guard(redis_client):
            raise OSError
    with suppress(CircuitOpen), breaker.guard(redis_client):
        raise AssertionError("the circuit is open")
    shown = page_reader.read(site).text
    assert "The circuit of carrier is open" in shown and "✕ open 2 of 2 calls" in shown


def test_open_canvases_are_shown_with_their_members(site: httpx.Client, redis_client: redis.Redis, hands: Hands) -> None:
    assert 'id="canvases"' not in site.get("/").text
    for _ in range(11):
        canvas = canvas_handle.launch(redis_client, starmap(sample_tasks.add, [[1, 2], [3, 4]]))
    shown = page_reader.read(site)
    assert "0 of 2" in shown.text and "Shown are the 10 where something happened last" in shown.text
    assert f"/v1/canvas/{canvas.id}" in {attributes.get("href") for tag, attributes in shown.elements if tag == "a"}


def test_a_redrive_that_is_under_way_is_shown(site: httpx.Client, redis_client: redis.Redis, hands: Hands) -> None:
    for job_id in ("lost1", "lost2"):
        enqueue(redis_client, sample_tasks.fail.spec("x", job_id=job_id), now=time.time())
        hands.fail(hands.must_claim("default"), Permanent("no such street"))
    redrives.request(redis_client, "redrive", by="ann", rate_per_s=1)
    shown = page_reader.read(site)
    assert "Redrive of all by ann" in shown.text and "0 of 2" in shown.text
    assert [a["max"] for tag, a in shown.elements if tag == "progress"] == ["2"]
