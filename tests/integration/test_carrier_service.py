"""The small carrier as a process of its own: one effect a key whatever is killed, and misbehaviour on demand."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.mall import carrier_log

ROOT = Path(__file__).parents[2]
BODY: dict[str, Any] = {"order_id": "o-1", "reference": "536365", "country": "Norway", "items": 3, "weight_g": 1200}
START_LIMIT_S = 20.0


class Running:
    """A carrier process and a client for it."""

    def __init__(self, process: subprocess.Popen[str], first_line: str) -> None:
        found = re.search(r"http://\S+", first_line)
        if found is None:
            raise AssertionError(f"the carrier did not start: {first_line!r}")
        self.process = process
        self.first_line = first_line
        self.client = httpx.Client(base_url=found.group(), timeout=10, trust_env=False)

    def book(self, key: str, **changes: Any) -> httpx.Response:
        return self.client.post("/shipments", headers={"Idempotency-Key": key}, json={**BODY, **changes})

    def tell(self, **control: Any) -> None:
        assert self.client.post("/control", json=control).status_code == 200


@contextmanager
def carrier(log: Path, port: int = 0) -> Iterator[Running]:
    command = [sys.executable, "-m", "jobs.mall.carrier_service", "--port", str(port), "--log", str(log)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            running = Running(process, process.stderr.readline() if process.stderr else "")
            with running.client:
                yield running
        finally:
            process.kill()


def effects(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "carrier.jsonl"


def test_a_repeated_key_gets_the_same_tracking_number_and_is_one_effect(log: Path) -> None:
    with carrier(log) as running:
        first, again, other = running.book("o-1:deliver"), running.book("o-1:deliver"), running.book("o-2:deliver")
        assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
        assert first.json() == again.json() != other.json()
        assert running.client.get("/shipments").json()["count"] == 2
        found = running.client.get("/shipments", params={"key": "o-1:deliver"}).json()
        assert found["count"] == 1
        assert found["shipments"][0]["shipment"] == BODY
        assert running.client.get("/shipments", params={"key": "none"}).json() == {"count": 0, "shipments": []}
        assert [effect["key"] for effect in effects(log)] == ["o-1:deliver", "o-2:deliver"]


def test_many_at_once_with_one_key_are_one_effect(log: Path) -> None:
    with carrier(log) as running, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: running.book("o-1:deliver"), range(32)))
        assert sorted(answer.status_code for answer in answers) == [200] * 31 + [201]
        assert len({answer.json()["tracking_number"] for answer in answers}) == 1
        assert len(effects(log)) == 1


def test_after_a_kill_the_log_still_knows_every_key_and_a_torn_last_line_is_dropped(log: Path) -> None:
    with carrier(log) as running:
        numbers = {key: running.book(key).json()["tracking_number"] for key in ("a", "b", "c")}
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(10)
    whole = log.read_bytes()
    log.write_bytes(whole + whole.splitlines()[0].replace(b'"a"', b'"torn"')[:-20])
    with carrier(log) as running:
        assert "with 3 shipments" in running.first_line
        assert {key: running.book(key).json()["tracking_number"] for key in numbers} == numbers
        assert running.book("torn").status_code == 201
    assert [effect["key"] for effect in effects(log)] == ["a", "b", "c", "torn"]


def test_a_write_that_failed_is_no_effect(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(file: int) -> None:
        raise OSError("no space left")

    effect_log, shipment = carrier_log.EffectLog(log), carrier_log.Shipment("o-1", 1)
    with monkeypatch.context() as full, pytest.raises(OSError, match="no space left"):
        full.setattr(os, "fsync", no_space)
        effect_log.book("a", shipment)
    booked, first = effect_log.book("b", shipment)
    assert first
    assert [effect["tracking_number"] for effect in effects(log)] == [booked.tracking_number]


def test_an_unreadable_log_stops_the_start_with_a_message(log: Path) -> None:
    log.write_bytes(b"{not json}\n")
    with pytest.raises(AssertionError, match="JSON is malformed"), carrier(log):
        pass


def test_a_port_in_use_stops_the_start_with_a_message(log: Path, tmp_path: Path) -> None:
    with carrier(log) as running:
        port = running.client.base_url.port or 0
        with pytest.raises(AssertionError, match="in use"), carrier(tmp_path / "other.jsonl", port):
            pass


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"items": "three"}, "items"),
        ({"items": 0}, "items"),
        ({"order_id": ""}, "order_id"),
        ({"colour": "red"}, "colour"),
        ({"weight_g": -1}, "weight_g"),
    ],
)
def test_a_bad_body_is_refused_with_the_field(log: Path, changes: dict[str, Any], field: str) -> None:
    with carrier(log) as running:
        answer = running.book("a", **changes)
        assert answer.status_code == 422
        assert field in answer.json()["detail"]
        assert effects(log) == []


def test_a_missing_field_a_missing_key_and_a_body_that_is_no_json_are_refused(log: Path) -> None:
    with carrier(log) as running:
        headers = {"Idempotency-Key": "a"}
        missing = running.client.post("/shipments", headers=headers, json={"items": 1})
        torn = running.client.post("/shipments", headers=headers, content=b'{"order_id": "o-1", ')
        keyless = running.client.post("/shipments", json=BODY)
        assert [answer.status_code for answer in (missing, torn, keyless)] == [422, 422, 400]
        assert "order_id" in missing.json()["detail"]
        assert "Idempotency-Key" in keyless.json()["detail"]
        assert effects(log) == []


def test_told_to_fail_it_answers_the_status_without_acting_as_often_as_told(log: Path) -> None:
    with carrier(log) as running:
        running.tell(mode="fail", times=2, status=503, retry_after_s=2)
        answers = [running.book("a") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503, 503, 201]
        assert answers[0].headers["retry-after"] == "2"
        assert running.client.get("/control").json()["used"] == 2
        assert len(effects(log)) == 1


def test_told_to_reject_only_one_order_it_rejects_that_one_for_ever(log: Path) -> None:
    with carrier(log) as running:
        running.tell(mode="reject", only="536366")
        rejected = [running.book("b", reference="536366", order_id="o-2") for _ in range(2)]
        assert [answer.status_code for answer in rejected] == [422, 422]
        assert running.book("a").status_code == 201
        running.tell(mode="ok")
        assert running.book("b", reference="536366", order_id="o-2").status_code == 201


def test_told_to_lose_the_reply_it_acts_and_cuts_the_connection(log: Path) -> None:
    with carrier(log) as running:
        running.tell(mode="lose_reply", times=1)
        with pytest.raises(httpx.TransportError):
            running.book("a")
        assert [effect["key"] for effect in effects(log)] == ["a"]
        again = running.book("a")
        assert (again.status_code, again.json()["tracking_number"]) == (200, effects(log)[0]["tracking_number"])


def test_told_to_stall_it_waits_and_then_acts(log: Path) -> None:
    with carrier(log) as running:
        running.tell(mode="stall", times=1, delay_s=0.3)
        began = time.monotonic()
        assert running.book("a").status_code == 201
        assert time.monotonic() - began >= 0.3


def test_told_to_stall_its_reply_it_has_acted_before(log: Path) -> None:
    with carrier(log) as running:
        running.tell(mode="stall_reply", times=1, delay_s=60)
        with pytest.raises(httpx.ReadTimeout):
            running.client.post("/shipments", headers={"Idempotency-Key": "a"}, json=BODY, timeout=1)
        assert [effect["key"] for effect in effects(log)] == ["a"]
        assert running.book("a").status_code == 200


@pytest.mark.parametrize("control", [{"mode": "sulk"}, {"mode": "fail", "times": "often"}, {"mod": "ok"}])
def test_an_unusable_control_is_refused_and_changes_nothing(log: Path, control: dict[str, Any]) -> None:
    with carrier(log) as running:
        before = running.client.get("/control").json()
        assert running.client.post("/control", json=control).status_code == 422
        assert running.client.get("/control").json() == before


def test_sigterm_ends_it_cleanly_within_two_seconds_even_with_a_stalled_request(log: Path) -> None:
    with carrier(log) as running, ThreadPoolExecutor(1) as pool:
        running.tell(mode="stall", delay_s=60)
        stalled = pool.submit(running.book, "a")
        limit = time.monotonic() + START_LIMIT_S
        while running.client.get("/control").json()["used"] == 0:
            assert time.monotonic() < limit, "the stalled request did not arrive"
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0
        assert time.monotonic() - began < 2
        assert stalled.exception(10) is not None or stalled.result().status_code == 500
        assert effects(log) == []
