"""The device of docs/examples against a web process that is killed and overloaded, and with the device itself killed too."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from processes import ROOT, Processes, wait_for
from web_process import Web

EXAMPLE = ROOT / "docs" / "examples" / "device.py"
LIMIT_S = 120.0
GATE = "main door"


class Device:
    """The example as a process; what it is told is on its stdin, what it has recorded in its spool."""

    def __init__(self, folder: Path, url: str) -> None:
        self._command = [sys.executable, str(EXAMPLE), url, str(folder / "events.ndjson"), GATE]
        self._spool = folder / "events.ndjson"
        self._errors = folder / "device.log"
        self.start()

    def start(self) -> None:
        """Starts it, again with the same spool."""
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stderr=errors)

    def passes(self, line: str, times: int) -> None:
        """So many people pass; comes back when each was recorded."""
        before = len(self.recorded())
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode() * times)
        self._process.stdin.flush()
        wait_for(lambda: len(self.recorded()) >= before + times, LIMIT_S, "the events are on disk")

    def recorded(self) -> list[dict[str, object]]:
        """The whole lines of the spool."""
        text = self._spool.read_bytes() if self._spool.exists() else b""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]

    def kill(self) -> None:
        """The power goes, in the middle of a line."""
        self._process.kill()
        self._process.wait()
        with self._spool.open("ab") as spool:
            spool.write(b'{"gate": "main d')

    def ends(self) -> str:
        """Nothing more comes: it sends what is left; returns what it printed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(LIMIT_S) == 0
        return self._errors.read_text()

    def end(self) -> None:
        """Ends it if it still runs."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def web(redis_client: redis.Redis, processes: Processes, free_port: int) -> Web:
    started = Web(processes, free_port, TURNSTILE_RATE_LIMITS="entries=100/s")
    started.start()
    return started


@pytest.fixture
def device(web: Web, tmp_path: Path) -> Iterator[Device]:
    started = Device(tmp_path, web.url)
    yield started
    started.end()


@pytest.mark.timeout(400)
def test_every_event_is_counted_once_though_web_and_device_are_killed_and_the_web_refuses(
    web: Web, device: Device, processes: Processes, redis_client: redis.Redis
) -> None:
    counter = processes.start("rq", "worker", "entries", RQ_CONFIG="jobs.rq_config")
    device.passes("in", 50)
    web.process.send(signal.SIGKILL)
    web.process.ended(LIMIT_S)
    device.passes("in 3", 150)  # nobody is there
    web.start()
    device.passes("in", 100)  # more at once than it is allowed
    web.process.send(signal.SIGKILL)
    device.kill()
    web.start()
    device.start()
    device.passes("out", 20)
    printed = device.ends()
    assert "ConnectError" in printed and "refused for good" not in printed, printed
    events = device.recorded()
    assert len({event["event_id"] for event in events}) == len(events) == 320

    def counted() -> bool:
        assert counter.runs, counter.output
        summary = httpx.get(f"{web.url}/v1/footfall/summary", trust_env=False).json()
        return bool(summary["counted"] == summary["accepted"] == 320)

    wait_for(counted, LIMIT_S, "320 events are counted")
    day = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() - 86_400))
    series = httpx.get(f"{web.url}/v1/footfall", params={"from": day, "gate": GATE}, trust_env=False).json()
    assert series["totals"] == {"in": 50 + 3 * 150 + 100, "out": 20}


def test_a_device_whose_batches_are_too_large_for_the_server_sends_smaller_ones(
    redis_client: redis.Redis, processes: Processes, free_port: int, tmp_path: Path
) -> None:
    small = Web(processes, free_port, TURNSTILE_MAX_BODY_BYTES="1024")
    device = Device(tmp_path, small.url)
    device.passes("in", 50)
    small.start()
    assert "413: again" in device.ends()
    summary = httpx.get(f"{small.url}/v1/footfall/summary", trust_env=False).json()
    assert summary["accepted"] == 50


def test_the_document_shows_the_device_as_it_is() -> None:
    document = (ROOT / "docs" / "front-door.md").read_text(encoding="utf-8")
    assert EXAMPLE.read_text(encoding="utf-8") in document
