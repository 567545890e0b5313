"""A request's trace goes through every job that comes of it, into their logs and to whoever they call."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import redis
import sample_tasks
from hands import Hands
from mall_floor import Floor
from processes import Process, Processes, wait_for
from receivers_told import ENVIRON
from web_process import Web

from jobs import keys, trace
from jobs.mall.reconcile import reconcile
from jobs.queue.canvas import chain
from jobs.queue.canvas_handle import launch

LIMIT_S = 60.0
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
TRACESTATE = "vendor=a b,other=2"


class Others:
    """The carrier and a receiver of webhooks: what they were sent, by path. The carrier fails once."""

    def __init__(self) -> None:
        self.called: list[tuple[str, dict[str, str]]] = []
        others = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                others.called.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                fails = self.path == "/shipments" and len(others.at("/shipments")) == 1
                body = b"{}" if fails else b'{"tracking_number": "T1"}'
                self.send_response(503 if fails else 201)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing on stderr."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def at(self, path: str) -> list[dict[str, str]]:
        """The headers of the calls of a path."""
        return [headers for called, headers in self.called if called == path]


@pytest.fixture
def others() -> Iterator[Others]:
    made = Others()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join(LIMIT_S)
    made.server.server_close()


def lines(*processes: Process) -> list[dict[str, Any]]:
    """What they have logged, one event a line."""
    return [json.loads(line) for process in processes for line in process.output.splitlines() if line.startswith("{")]


def test_every_line_and_every_call_of_an_order_has_the_trace_of_its_request(
    redis_client: redis.Redis, processes: Processes, free_port: int, others: Others
) -> None:
    environ = {**ENVIRON, "CARRIER_URL": others.url, "TURNSTILE_LOG_LEVEL": "DEBUG", "TURNSTILE_BACKOFF_BASE_S": "0.01"}
    environ |= {"TURNSTILE_SAMPLES": "1", "RQ_CONFIG": "jobs.rq_config"}
    web = Web(processes, free_port, **environ)
    web.start()
    queues = ("picking", "packing", "delivery", "notify", "default")
    workers = [
        processes.start("rq", "worker", "-w", f"jobs.queue.worker.{kind}", *queues, **environ)
        for kind in ("CpuWorker", "IoWorker")
    ]
    scheduler = processes.start("python", "-m", "scheduler", **environ)
    headers = {"traceparent": TRACEPARENT, "tracestate": TRACESTATE, "Idempotency-Key": "k1"}
    order = {"lines": [{"sku": "A", "quantity": 1}], "notify_url": f"{others.url}/shop"}
    with httpx.Client(base_url=web.url, trust_env=False, timeout=30) as client:
        answer = client.post("/v1/orders", json=order, headers=headers)
        order_id = answer.json()["id"]
        assert answer.headers["traceparent"][:36] == TRACEPARENT[:36] != answer.headers["traceparent"][36:52]
        job = client.post("/v1/jobs", json={"task": "samples.add", "args": [1, 2]}, headers=headers).json()["id"]
        wait_for(lambda: client.get(f"/v1/orders/{order_id}").json()["status"] == "delivered", LIMIT_S, "the order is delivered")
        assert client.post("/v1/orders", json=order, headers={"Idempotency-Key": "k1"}).json()["id"] == order_id
        wait_for(lambda: len(others.at("/shop")) == 5, LIMIT_S, "the receiver is told")
        wait_for(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "finished", LIMIT_S, "the job is done")

    def of_it() -> list[dict[str, Any]]:
        return [line for line in lines(*workers) if order_id in json.dumps(line) or line.get("job_id") == job]

    wanted = {f"{order_id}-pack", f"{order_id}-deliver", job}
    wait_for(lambda: wanted <= {line["job_id"] for line in of_it() if line["event"] == "finished"}, LIMIT_S, "all is logged")
    assert {line.get("trace_id") for line in of_it()} == {TRACE_ID}
    assert any(line["event"] == "webhook" for line in of_it()) and any(line["event"] == "retry" for line in of_it())
    calls = [*others.at("/shipments"), *others.at("/shop")]
    assert {(call["traceparent"][:36], call["tracestate"]) for call in calls} == {(TRACEPARENT[:36], TRACESTATE)}
    assert len({call["traceparent"] for call in calls}) == len(calls) == 7
    picks = [line for line in lines(*workers) if str(line.get("job_id", "")).startswith("pick-")]
    assert picks and not any("trace_id" in line for line in picks), "a batch belongs to many requests"
    assert redis_client.hget(keys.job(job), "trace") is not None and scheduler.runs


@pytest.mark.parametrize("countdown_s", [None, 600.0], ids=["to be packed", "delayed"])
def test_the_job_that_an_order_gets_back_belongs_to_the_trace_of_its_request(
    redis_client: redis.Redis, hands: Hands, floor: Floor, countdown_s: float | None
) -> None:
    order_id = floor.order(("A", 1), countdown_s=countdown_s)
    hands.work_off("picking")
    job = keys.job(f"{order_id}-start" if countdown_s else f"{order_id}-pack")
    redis_client.delete(job)
    assert reconcile(redis_client, now=time.time() + 60, after_s=5) != []
    assert redis_client.hget(job, "trace") == redis_client.hget(keys.order(order_id), "trace") == b"t"


def test_what_a_canvas_and_a_job_enqueue_belongs_to_the_trace_of_their_sender(redis_client: redis.Redis, hands: Hands) -> None:
    with trace.within(TRACEPARENT):
        handle = launch(redis_client, chain(sample_tasks.add.s(1, 2), sample_tasks.add.s(3)))
    hands.work_off("default")
    assert handle.result() == 6
    members = list(redis_client.scan_iter(keys.job(f"{handle.id}-*")))
    assert [redis_client.hget(member, "trace") for member in members] == [TRACEPARENT.encode()] * 2
    assert "trace" not in sample_tasks.add.spec(1, 2).flat


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{'1' * 16}-01", f"01-{TRACEPARENT[3:]}", f"{TRACEPARENT} "])
def test_a_broken_header_begins_a_new_trace_and_its_state_goes_nowhere(header: str) -> None:
    found = trace.child_of(header, TRACESTATE)
    assert trace.TRACEPARENT.fullmatch(found) and TRACE_ID not in found


def test_a_state_that_is_too_long_or_not_printable_is_left_out() -> None:
    for state in ("", "a" * 513, "a=\x01", "a=ä"):
        assert " " not in trace.child_of(TRACEPARENT, state)
    assert trace.child_of(TRACEPARENT, "a" * 512).endswith(" " + "a" * 512)


def test_what_is_called_gets_a_span_of_its_own_and_without_a_trace_none() -> None:
    assert trace.headers() == {}
    with trace.within(f"{TRACEPARENT} a=1"):
        first, second = trace.headers(), trace.headers()
    assert first["tracestate"] == "a=1" and first["traceparent"] != second["traceparent"]
    assert trace.headers() == {}
