"""Redis is killed again and again while entries come in and are counted: each that was answered 202 is counted exactly once.

`TEST_REDIS_KILLS=50` makes a measurement of it.
"""

import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from functools import partial

import httpx
import pytest
import redis
from processes import Processes, wait_for
from servers import Server
from web_site import serving

from jobs import keys
from jobs.mall.footfall import events_in
from jobs.settings import Settings

KILLS = int(os.environ.get("TEST_REDIS_KILLS", "4"))
DEVICES = 4
LINES = 200
BETWEEN = 3
"""Requests that each device gets through between two kills."""
PATIENCE_S = 120.0


class Device(threading.Thread):
    """Sends entries, each request again until it is answered 202, as a device should: one at a time and as NDJSON in turn."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__()
        self._url, self._name = url, name
        self.sent: list[str] = []
        self.acknowledged = 0
        self.odd: list[int] = []
        self.enough = threading.Event()

    def run(self) -> None:
        """Until it is enough."""
        with httpx.Client(base_url=self._url, trust_env=False, timeout=30) as client:
            for number in itertools.count():
                if self.enough.is_set():
                    return
                events = [f"{self._name}-{number}-{line}" for line in range(LINES if number % 2 else 1)]
                self._until_taken(client, events)
                self.sent += events
                self.acknowledged += 1

    def _until_taken(self, client: httpx.Client, events: list[str]) -> None:
        body = "\n".join(json.dumps({"gate": self._name, "event_id": event}) for event in events)
        kind = "application/x-ndjson" if len(events) > 1 else "application/json"
        while (answer := client.post("/v1/entries", content=body, headers={"Content-Type": kind})).status_code != 202:
            if answer.status_code != 503:
                self.odd.append(answer.status_code)
            time.sleep(0.02)


@pytest.fixture
def redis_url(own_server: Server) -> str:
    """A server that may be killed."""
    return own_server.url


@pytest.fixture
def devices(settings: Settings) -> Iterator[list[Device]]:
    """Devices at work."""
    with serving(settings) as client:
        started = [Device(str(client.base_url), f"device{number}") for number in range(DEVICES)]
        for device in started:
            device.start()
        yield started
        for device in started:
            device.enough.set()
            device.join(30)


def reached(goals: list[tuple[Device, int]]) -> bool:
    return all(device.acknowledged >= goal for device, goal in goals)


def test_no_acknowledged_entry_is_lost_or_counted_twice_however_often_redis_is_killed(
    own_server: Server, redis_client: redis.Redis, devices: list[Device], processes: Processes
) -> None:
    processes.start("rq", "worker", "-w", "jobs.queue.worker.IoWorker", "entries", RQ_CONFIG="jobs.rq_config")
    processes.start("python", "-m", "scheduler", TURNSTILE_RECONCILE_AFTER_S="1")
    for _ in range(KILLS):
        goals = [(device, device.acknowledged + BETWEEN) for device in devices]
        wait_for(partial(reached, goals), PATIENCE_S, "each device gets through")
        own_server.kill()
        own_server.start()
    for device in devices:
        device.enough.set()
        device.join(PATIENCE_S)
    sent = sum(len(device.sent) for device in devices)

    def numbers() -> tuple[int, int]:
        with redis_client.pipeline(transaction=True) as pipeline:
            pipeline.hmget(keys.ENTRIES, "accepted", "counted")
            pipeline.lrange(keys.ENTRIES_BUFFER, 0, -1)
            (accepted, counted), waiting = pipeline.execute()
        assert int(accepted) == int(counted or 0) + events_in(waiting)
        return int(accepted), int(counted or 0)

    wait_for(lambda: numbers()[0] == numbers()[1], PATIENCE_S, "all is counted")
    assert numbers() == (sent, sent)
    assert not any(device.odd for device in devices)
    people = sum(int(n) for key in redis_client.scan_iter(match=f"{keys.GATES_PREFIX}*") for n in redis_client.hvals(key))
    assert people == sent
