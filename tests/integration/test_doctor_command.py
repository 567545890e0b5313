"""`python -m jobs doctor` as a process: what it prints and its exit codes; and beside a system at full work it finds nothing."""

import itertools
import json
import sys
import time
from collections.abc import Iterator
from functools import partial

import redis
from asking import Ask
from carriers import Carrier
from mall_floor import Floor
from processes import Processes, wait_for
from snapshots import changes, snapshot

from jobs import keys
from jobs.__main__ import COMMANDS
from jobs.commands.doctor import examined
from jobs.mall import entries
from jobs.queue import samples
from jobs.queue.calling import enqueue
from jobs.queue.canvas import group
from jobs.queue.canvas_handle import launch
from jobs.queue.canvas_parts import signature
from jobs.queue.orphans import Seen, Walk
from jobs.settings import Settings

DOCTOR = f"import sys; from {COMMANDS['doctor'][0]} import main; sys.exit(main(sys.argv[1:]))"
LIMIT_S = 60.0
QUEUES = ("picking", "packing", "delivery", "entries", "default")
LOOKS = 5


def doctor(processes: Processes, *words: str, code: int) -> str:
    process = processes.start(sys.executable, "-c", DOCTOR, *words)
    assert process.ended(LIMIT_S) == code, process.output
    return process.output.strip()


def test_the_command_reports_then_mends_and_says_so_by_its_exit_code(redis_client: redis.Redis, processes: Processes) -> None:
    assert doctor(processes, code=0) == "0 keys, and 0 of other programs: nothing is wrong"
    redis_client.zadd(keys.failed("default"), {"gone": 1})
    redis_client.set("turnstile:unheard-of", "\x1b[2J")
    redis_client.set("theirs", "1")
    before = snapshot(redis_client)
    said = doctor(processes, code=1)
    assert said.splitlines()[0] == "2 keys, and 1 of other programs: 2 found, 2 left"
    assert "entry-of-nothing" in said and "key-unknown" in said
    found = json.loads(doctor(processes, "--json", code=1))
    assert changes(before, snapshot(redis_client)) == {}, "without --fix nothing is written"
    assert (found["keys"], found["foreign_keys"]) == (2, 1)
    assert {report["kind"]: (report["found"], report["left"], report["examples"]) for report in found["findings"]} == {
        "entry-of-nothing": (1, 1, ["rq:failed:default gone"]),
        "key-unknown": (1, 1, ["turnstile:unheard-of"]),
    }
    assert "2 found, 1 left" in doctor(processes, "--fix", code=1)
    redis_client.delete("turnstile:unheard-of")
    redis_client.zadd(keys.failed("default"), {"gone": 1})
    assert "1 found, 0 left" in doctor(processes, "--fix", code=0)
    assert "nothing is wrong" in doctor(processes, code=0)


def test_what_cannot_be_looked_at_is_a_sentence_and_no_traceback(processes: Processes) -> None:
    said = processes.start(sys.executable, "-c", DOCTOR, REDIS_URL="unix:///nowhere/redis.sock")
    assert said.ended(LIMIT_S) == 2
    assert "Traceback" not in said.output and "nowhere" in said.output


def test_beside_a_system_at_full_work_it_finds_nothing(
    redis_client: redis.Redis, processes: Processes, floor: Floor, ask: Ask, settings: Settings, carrier: Carrier
) -> None:
    processes.start("python", "-m", "scheduler", CARRIER_URL=carrier.url)
    for _ in range(2):
        processes.worker(*QUEUES, config="jobs.rq_config", TURNSTILE_SAMPLES="1", CARRIER_URL=carrier.url)
    wait_for(lambda: redis_client.scard(keys.WORKERS) == 2 and redis_client.scard(keys.PERIODIC), LIMIT_S, "they are up")
    floor.put("A", 10**6)
    numbers = itertools.count()

    class Busy(Walk):
        """A walk during which everything goes on."""

        def pages(self, client: redis.Redis) -> Iterator[list[Seen]]:
            for page in super().pages(client):
                for _ in range(2):
                    work(client, floor, ask, settings, f"{next(numbers)}")
                yield page

    finished = 0
    for _ in range(LOOKS):
        for _ in range(20):
            work(redis_client, floor, ask, settings, f"{next(numbers)}")
        found = examined(redis_client, Busy(), time.sleep)
        assert [(finding.kind.name, finding.target) for finding in found] == []
        finished = redis_client.zcard(keys.finished("default"))
    assert finished, "it was at work meanwhile"
    ended = keys.STATUS_PREFIX + "delivered"
    wait_for(lambda: redis_client.zcard(ended) == redis_client.zcard(keys.ORDERS) > 0, LIMIT_S, "the orders are delivered")


def work(client: redis.Redis, floor: Floor, ask: Ask, settings: Settings, name: str) -> None:
    """One of each: an order, an entry, jobs for now and later, one that fails, a canvas, an item of a batch."""
    now = time.time()
    floor.order(("A", 1), key=name, countdown_s=0.2 if name.endswith("5") else None)
    event = json.dumps({"gate": "n", "event_id": name}).encode()
    parsed = entries.parse(event, settings=settings, zone=settings.zone, now=now)
    ask(partial(entries.ingest, entries=[parsed], settings=settings, now=now))
    enqueue(client, samples.add.spec(1, 2), now=now)
    enqueue(client, samples.add.spec(1, 2), now=now, due_at=now + 0.3)
    enqueue(client, samples.fail_times.spec(1, name), now=now)
    enqueue(client, samples.add.spec("a", 2), now=now)
    launch(client, group([signature(samples.add, (1, 2))] * 3))
    samples.sum_up.add(client, 1)
