"""GET /v1/jobs/{id}/events from a real web process: what a follower is told, and when the stream ends."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
import sample_tasks
from hands import Hands
from job_watch import wait_until
from processes import Process, Processes, wait_for

from jobs.errors import Permanent
from jobs.queue.calling import enqueue
from jobs.queue.running import RunningJob


class Follower:
    """Reads an event stream on a thread of its own."""

    def __init__(self, url: str) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.last_id = ""
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(url,), daemon=True)
        self._thread.start()

    def _read(self, url: str) -> None:
        kind = ""
        try:
            with httpx.stream("GET", url, trust_env=False, timeout=30) as answer:
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "id":
                        self.last_id = value
                    elif name == "data":
                        self.events.append((kind, json.loads(value)))
        except httpx.RemoteProtocolError:
            pass  # the server went
        self.ended.set()

    def told(self, kind: str, **fields: object) -> None:
        """Waits for an event with these fields."""
        wait_for(
            lambda: any(name == kind and fields.items() <= data.items() for name, data in self.events), 15, f"{kind} {fields}"
        )


@pytest.fixture
def web(redis_client: redis.Redis, processes: Processes, free_port: int) -> Iterator[tuple[str, Process]]:
    process = processes.start("python", "-m", "web", PORT=str(free_port))
    url = f"http://127.0.0.1:{free_port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/livez", trust_env=False).is_success
        except httpx.TransportError:
            return False

    wait_for(answers, 30, "the web answers")
    yield url, process


def test_a_follower_sees_each_status_and_report_until_the_result(
    web: tuple[str, Process], redis_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    url, _ = web
    enqueue(redis_client, sample_tasks.report.spec(str(tmp_path), job_id="j"), now=time.time())
    followers = [Follower(f"{url}/v1/jobs/j/events") for _ in range(2)]
    for follower in followers:
        follower.told("status", status="queued")
    processes.worker("default")
    for follower in followers:
        follower.told("status", status="started")
        follower.told("progress", current=1, total=2, message="half")
    (tmp_path / "go").touch()
    wait_until(redis_client, "j", "finished")
    for follower in followers:
        assert follower.ended.wait(5)
        assert [data["status"] for kind, data in follower.events if kind == "status"] == ["queued", "started", "finished"]
        assert follower.events[-1][0] == "status"
        assert [data["current"] for kind, data in follower.events if kind == "progress"] == [1, 2]
    shown = httpx.get(f"{url}/v1/jobs/j", trust_env=False).json()
    assert (shown["progress"]["current"], shown["progress"]["total"]) == (2, 2)


def test_a_dead_job_ends_the_stream_with_its_error_and_a_retry_is_told(
    web: tuple[str, Process], redis_client: redis.Redis, hands: Hands
) -> None:
    url, _ = web
    enqueue(redis_client, sample_tasks.fail_later.spec("x", job_id="j"), now=time.time())
    follower = Follower(f"{url}/v1/jobs/j/events")
    follower.told("status", status="queued")
    hands.fail(hands.must_claim("default"), ValueError("x"))
    follower.told("status", status="scheduled")
    hands.promote("default")
    hands.fail(hands.must_claim("default"), Permanent("no such street"))
    follower.told("status", status="failed", error="no such street")
    assert follower.ended.wait(5)


def test_a_job_that_keeps_no_result_ends_the_stream(web: tuple[str, Process], redis_client: redis.Redis, hands: Hands) -> None:
    url, _ = web
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="j"), now=time.time())
    follower = Follower(f"{url}/v1/jobs/j/events")
    follower.told("status", status="queued")
    claim = hands.must_claim("default")
    follower.told("status", status="started")
    RunningJob("j", "default", 1, hands.name, claim.execution, redis_client).progress(1)
    follower.told("progress", current=1)
    hands.finish(claim, result_ttl_s=0)
    assert follower.ended.wait(5) and follower.events[-1] == ("status", {"id": "j", "status": "gone"})


def test_an_unknown_job_is_404_and_an_ended_one_is_told_once(
    web: tuple[str, Process], redis_client: redis.Redis, hands: Hands
) -> None:
    url, _ = web
    answer = httpx.get(f"{url}/v1/jobs/none/events", trust_env=False)
    assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="j"), now=time.time())
    hands.work("default")
    follower = Follower(f"{url}/v1/jobs/j/events")
    assert follower.ended.wait(5)
    assert [(kind, data["status"], data["result"]) for kind, data in follower.events] == [("status", "finished", 3)]
    assert follower.last_id
    again = httpx.get(f"{url}/v1/jobs/j/events", headers={"Last-Event-ID": follower.last_id}, trust_env=False)
    assert (again.status_code, again.content) == (204, b""), "who has seen the end is told not to connect again"


def test_a_stop_of_the_server_ends_the_streams(web: tuple[str, Process], redis_client: redis.Redis) -> None:
    url, process = web
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="j"), now=time.time())
    follower = Follower(f"{url}/v1/jobs/j/events")
    follower.told("status", status="queued")
    lines = {"lines": [{"sku": "A", "quantity": 1}]}
    order = httpx.post(f"{url}/v1/orders", json=lines, headers={"Idempotency-Key": "k"}, trust_env=False)
    of_order = Follower(f"{url}{order.headers['location']}/events")
    of_order.told("order", status="accepted")
    process.send(signal.SIGTERM)
    assert process.ended(10) == 0
    assert follower.ended.wait(5) and of_order.ended.wait(5)


def test_a_running_job_is_stopped_for_good_and_no_other(
    web: tuple[str, Process], redis_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    job = f"{web[0]}/v1/jobs/j"
    assert httpx.post(f"{job}/stop", trust_env=False).status_code == 404
    enqueue(redis_client, sample_tasks.report.spec(str(tmp_path), job_id="j"), now=time.time())
    assert httpx.post(f"{job}/stop", trust_env=False).status_code == 409
    processes.worker("default")
    wait_until(redis_client, "j", "started")
    assert httpx.post(f"{job}/stop", trust_env=False).status_code == 202
    wait_until(redis_client, "j", "failed")
    assert [attempt["error_type"] for attempt in httpx.get(job, trust_env=False).json()["attempts"]] == ["JobStopped"]
    assert httpx.post(f"{job}/stop", trust_env=False).status_code == 409
