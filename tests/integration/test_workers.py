"""Workers as operators see and steer them: over HTTP and from a terminal."""

import getpass
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import enrolled
import httpx
import pytest
import redis
import sample_tasks
from hands import Hands
from killing import Killer
from processes import Processes, wait_for
from web_site import serving

from jobs import keys
from jobs.__main__ import COMMANDS
from jobs.queue import audit, overview, pools
from jobs.queue.calling import enqueue
from jobs.queue.overview import CurrentJob
from jobs.queue.remote import Command, Commands, Kind
from jobs.setting_values import ApiKey, Range, hash_api_key
from jobs.settings import Settings

KEY = "a-key-of-24-characters-x"
COMMAND = f"import sys; from {COMMANDS['workers'][0]} import main; sys.exit(main(sys.argv[1:]))"
WHO = f"cli:{getpass.getuser()}"
LIMIT_S = 10.0
START_LIMIT_S = 30.0


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(Settings(redis_url=settings.redis_url, api_keys=(ApiKey("ann", hash_api_key(KEY)),))) as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


@pytest.fixture
def told(redis_client: redis.Redis) -> Iterator[Callable[[], Command]]:
    """What worker w1 is told; its end of RQ's channel is open."""
    commands = Commands(redis_client, "w1")
    with closing(commands):
        commands.read()
        wait_for(lambda: redis_client.pubsub_numsub("rq:pubsub:w1")[0][1] == 1, LIMIT_S, "it listens")

        def next_one() -> Command:
            found: list[Command] = []

            def come() -> bool:
                found.extend(commands.read())
                return bool(found)

            wait_for(come, LIMIT_S, "a command comes")
            [only] = found
            return only

        yield next_one


def trail(client: redis.Redis) -> list[tuple[str, str, str]]:
    """The audit trail, the newest entry first."""
    return [(entry.what, entry.who, entry.target) for entry in audit.page(client, cursor=None, limit=99)[0]]


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    return problem


# --- what is seen ----------------------------------------------------------------------------


def test_a_worker_shows_what_it_runs_its_size_range_and_memory(redis_client: redis.Redis, site: httpx.Client) -> None:
    enrolled.beat(redis_client, "w1", "delivery", "default", busy=3, size=8, within=Range(2, 20), memory_bytes=123)
    hands = Hands(redis_client, "w1")
    for number in range(3):
        enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id=f"j{number}", queue="default.high"), now=time.time())
        hands.must_claim("default")
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="another"), now=time.time())
    Hands(redis_client, "w2").must_claim("default")
    [seen] = site.get("/v1/workers").json()["workers"]
    now = time.time()
    assert now - 10 < seen.pop("heartbeat_at") <= now + 1 and now - 10 < seen.pop("started_at") <= now
    held = seen.pop("current_jobs")
    assert [(job["id"], job["task"], job["queue"]) for job in held] == [
        (f"j{number}", "sample.add", "default.high") for number in range(3)
    ]
    assert all(now - 10 < job["started_at"] <= now for job in held)
    assert seen == {
        "name": "w1",
        "queues": ["delivery", "default"],
        "state": "busy",
        "pid": 1,
        "hostname": "h",
        "current_job": None,
        "successful": 7,
        "failed": 0,
        "working_s": 0.0,
        "kind": "io",
        "pool": "delivery-default",
        "size": 8,
        "min": 2,
        "max": 20,
        "busy": 3,
        "memory_bytes": 123,
    }


def test_a_stock_worker_has_one_place_no_pool_no_range_and_no_memory(redis_client: redis.Redis, site: httpx.Client) -> None:
    enrolled.stock(redis_client, "stock", state="busy", current_job="j1")
    [seen] = site.get("/v1/workers").json()["workers"]
    expected: dict[str, object] = {
        "kind": "stock",
        "pool": None,
        "size": 1,
        "min": None,
        "max": None,
        "busy": 1,
        "memory_bytes": None,
        "current_jobs": [],
        "current_job": "j1",
    }
    assert {name: seen[name] for name in expected} == expected


def test_the_job_of_a_running_stock_worker_is_listed_like_ours(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    enqueue(redis_client, sample_tasks.hold.spec(str(tmp_path), job_id="j1"), now=time.time())
    processes.stock_worker("default")

    def held() -> list[CurrentJob]:
        return [job for worker in overview.workers(redis_client, with_jobs=True) for job in worker.current_jobs]

    wait_for(held, START_LIMIT_S, "it runs the job")
    [job] = held()
    assert (job.id, job.task, job.queue) == ("j1", "sample.hold", "default") and time.time() - 30 < job.started_at <= time.time()


def test_an_entry_that_cannot_be_read_hides_no_other(redis_client: redis.Redis) -> None:
    enrolled.beat(redis_client, "w1", "default")
    enrolled.stock(redis_client, "odd", size="many")
    enrolled.stock(redis_client, "dead", death="2026-11-21T10:00:00.000000Z")
    redis_client.set(keys.worker("text"), "x")
    redis_client.sadd(keys.WORKERS, keys.worker("text"), keys.worker("expired"))
    assert [worker.name for worker in overview.workers(redis_client, with_jobs=True)] == ["w1"]


def test_at_most_a_hundred_jobs_of_a_worker_are_listed_the_oldest_first(redis_client: redis.Redis, hands: Hands) -> None:
    enrolled.beat(redis_client, "hands", "default")
    for number in range(120):
        enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id=f"j{number:03}"), now=time.time())
        hands.must_claim("default")
    [seen] = overview.workers(redis_client, with_jobs=True)
    assert [job.id for job in seen.current_jobs] == [f"j{number:03}" for number in range(100)]


def test_workers_and_their_jobs_cost_four_round_trips_however_many_they_are(
    redis_client: redis.Redis, hands: Hands, killer: Killer
) -> None:
    for name in ("hands", "w2", "w3"):
        enrolled.beat(redis_client, name, "default", "packing")
    for _ in range(20):
        enqueue(redis_client, sample_tasks.add.spec(1, 2), now=time.time())
        hands.must_claim("default")
    for with_jobs, round_trips in ((False, 2), (True, 4)):
        for at, struck in ((round_trips - 1, True), (round_trips, False)):
            with killer.at(at, after=False):
                overview.workers(redis_client, with_jobs=with_jobs)
            assert killer.struck is struck, (with_jobs, at)


# --- scaling ---------------------------------------------------------------------------------


def test_a_pool_is_scaled_and_brought_back_to_its_settings(redis_client: redis.Redis, site: httpx.Client) -> None:
    enrolled.beat(redis_client, "w1", "delivery")
    enrolled.beat(redis_client, "w2", "delivery")
    enrolled.beat(redis_client, "w3", "delivery", "default")
    for body in ({"min": 2, "max": 20}, {"min": 1, "max": 1}):
        answer = site.post("/v1/workers/delivery/scale", json=body)
        assert (answer.status_code, answer.json()) == (202, {"pool": "delivery", **body, "workers": 2})
        assert pools.ranges(redis_client) == {"delivery": Range(**body)}
    for _twice in range(2):
        answer = site.delete("/v1/workers/delivery/scale")
        assert (answer.status_code, answer.json()) == (200, {"pool": "delivery", "min": None, "max": None, "workers": 2})
    assert pools.ranges(redis_client) == {}
    default, ranges = ("scale pool to its default", "ann", "delivery"), ("1..1", "2..20")
    assert trail(redis_client) == [default, default, *((f"scale pool to {given}", "ann", "delivery") for given in ranges)]


def test_the_range_of_a_pool_without_workers_is_changed_and_taken_back(redis_client: redis.Redis, site: httpx.Client) -> None:
    pools.scale(redis_client, "delivery", Range(1, 4))
    assert site.post("/v1/workers/delivery/scale", json={"min": 2, "max": 2}).json()["workers"] == 0
    assert site.delete("/v1/workers/delivery/scale").status_code == 200
    assert refused(site.delete("/v1/workers/delivery/scale"), 404)["detail"].endswith("known are: none")


def test_an_unknown_pool_is_answered_with_the_known_ones(redis_client: redis.Redis, site: httpx.Client) -> None:
    enrolled.beat(redis_client, "w1", "packing")
    enrolled.stock(redis_client, "stock")
    pools.scale(redis_client, "delivery", Range(1, 4))
    for name in ("w1", "default", "none"):
        said = refused(site.post(f"/v1/workers/{name}/scale", json={"min": 1, "max": 2}), 404)
        assert said["detail"] == f"no pool with id '{name}'; known are: delivery, packing"
    assert trail(redis_client) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"min": 0, "max": 2}, "min"),
        ({"min": -1, "max": 2}, "min"),
        ({"min": 1, "max": 1001}, "max"),
        ({"min": 3, "max": 2}, "min"),
        ({"min": 1.5, "max": 2}, "min"),
        ({"min": "1", "max": 2}, "min"),
        ({"min": None, "max": None}, "min"),
        ({"min": 1}, "max"),
        ({"min": 1, "max": 2, "by": 3}, "by"),
    ],
)
def test_a_range_that_cannot_be_is_refused_by_field(
    redis_client: redis.Redis, site: httpx.Client, body: dict[str, object], field: str
) -> None:
    enrolled.beat(redis_client, "w1", "packing")
    errors = refused(site.post("/v1/workers/packing/scale", json=body), 422)["errors"]
    assert errors[0]["field"] == field and all(error["reason"] for error in errors)
    assert pools.ranges(redis_client) == {} and trail(redis_client) == []


# --- stop and restart ------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "kind"), [("stop", Kind.SHUTDOWN), ("restart", Kind.RESTART)])
def test_a_worker_is_told_to_stop_or_to_restart(
    redis_client: redis.Redis, site: httpx.Client, told: Callable[[], Command], action: str, kind: Kind
) -> None:
    enrolled.beat(redis_client, "w1", "default")
    answer = site.post(f"/v1/workers/w1/{action}")
    assert (answer.status_code, answer.json()) == (202, {"target": "w1", "action": action})
    assert told() == Command(kind)
    assert trail(redis_client) == [(f"{action} worker", "ann", "w1")]


def test_a_stock_worker_is_stopped_but_not_restarted(
    redis_client: redis.Redis, site: httpx.Client, told: Callable[[], Command]
) -> None:
    enrolled.stock(redis_client, "w1")
    assert "knows no restart" in refused(site.post("/v1/workers/w1/restart"), 409)["detail"]
    assert site.post("/v1/workers/w1/stop").status_code == 202
    assert told() == Command(Kind.SHUTDOWN)
    assert trail(redis_client) == [("stop worker", "ann", "w1")]


def test_a_worker_that_is_not_there_is_not_found(redis_client: redis.Redis, site: httpx.Client) -> None:
    for action in ("stop", "restart"):
        refused(site.post(f"/v1/workers/gone/{action}"), 404)
    assert trail(redis_client) == []


@pytest.mark.parametrize("kind", ["IoWorker", "CpuWorker"])
def test_a_running_worker_is_scaled_restarted_and_stopped(
    redis_client: redis.Redis, site: httpx.Client, processes: Processes, kind: str
) -> None:
    worker = processes.worker("default", options=("-w", f"jobs.queue.worker.{kind}"))

    def seen() -> dict[str, Any]:
        found = site.get("/v1/workers").json()["workers"]
        return found[0] if len(found) == 1 else {}

    first = wait_for(seen, START_LIMIT_S, "it is enrolled")
    assert (first["kind"], first["pool"], first["pid"]) == (kind[:-6].lower(), "default", worker.pid)
    site.post("/v1/workers/default/scale", json={"min": 3, "max": 3})
    wait_for(lambda: [seen().get(field) for field in ("size", "min", "max")] == [3, 3, 3], LIMIT_S, "it has three places")
    site.post(f"/v1/workers/{first['name']}/restart")
    wait_for(lambda: seen().get("name", first["name"]) != first["name"], START_LIMIT_S, "it has begun anew")
    again = seen()
    assert (again["pid"], again["started_at"] > first["started_at"]) == (worker.pid, True)
    wait_for(lambda: seen().get("size") == 3, LIMIT_S, "it has three places again")
    site.post(f"/v1/workers/{again['name']}/stop")
    assert worker.ended(LIMIT_S) == 0
    assert site.get("/v1/workers").json() == {"workers": []}


# --- on the command line ---------------------------------------------------------------------


def run(processes: Processes, *words: str, code: int = 0) -> str:
    process = processes.start(sys.executable, "-c", COMMAND, *words)
    assert process.ended(30) == code, process.output
    return process.output


def test_the_command_lists_workers_as_a_table_and_as_json(redis_client: redis.Redis, processes: Processes) -> None:
    assert run(processes).split() == ["NAME", "KIND", "QUEUES", "STATE", "BUSY", "RANGE", "MEMORY", "DONE", "FAILED", "HEARTBEAT"]
    enrolled.beat(redis_client, "w1", "delivery", "default", busy=3)
    enrolled.stock(redis_client, "x\x1b[2J")
    head, ours, stock = run(processes).splitlines()
    assert head.index("BUSY") == ours.index("3/8") and "\x1b" not in stock
    assert ours.split()[:9] == ["w1", "io", "delivery,default", "busy", "3/8", "1..8", "50", "MiB", "7"]
    assert stock.split()[1:7] == ["stock", "default", "idle", "0/1", "-", "-"]
    seen = json.loads(run(processes, "--json"))["workers"]
    assert [(worker["name"], worker["busy"]) for worker in seen] == [("w1", 3), ("x\x1b[2J", 0)]
    assert trail(redis_client) == []


def test_the_command_scales_stops_and_restarts_and_signs_the_audit_trail(
    redis_client: redis.Redis, processes: Processes, told: Callable[[], Command]
) -> None:
    enrolled.beat(redis_client, "w1", "delivery")
    assert run(processes, "scale", "delivery", "2..8") == "pool delivery  range 2..8  workers 1\n"
    assert json.loads(run(processes, "scale", "delivery", "4", "--json")) == {
        "pool": "delivery",
        "min": 4,
        "max": 4,
        "workers": 1,
    }
    assert pools.ranges(redis_client) == {"delivery": Range(4, 4)}
    assert run(processes, "scale", "delivery", "default") == "pool delivery  range default  workers 1\n"
    assert pools.ranges(redis_client) == {}
    assert run(processes, "restart", "w1") == "restart w1\n"
    assert told() == Command(Kind.RESTART)
    assert run(processes, "stop", "w1") == "stop w1\n"
    assert told() == Command(Kind.SHUTDOWN)
    assert trail(redis_client) == [
        ("stop worker", WHO, "w1"),
        ("restart worker", WHO, "w1"),
        ("scale pool to its default", WHO, "delivery"),
        ("scale pool to 4..4", WHO, "delivery"),
        ("scale pool to 2..8", WHO, "delivery"),
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("stop", "gone"), "no worker with id 'gone'"),
        (("restart", "plain"), "a stock worker knows no restart"),
        (("scale", "packing", "1..2"), "known are: delivery"),
        (("scale", "delivery", "0..2"), "'0..2' must be a number"),
        (("scale", "delivery", "3..2"), "the smaller one first"),
        (("scale", "delivery", "many"), "'many' must be a number"),
        (("explode",), "invalid choice"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_no_traceback(
    redis_client: redis.Redis, processes: Processes, words: tuple[str, ...], says: str
) -> None:
    enrolled.beat(redis_client, "w1", "delivery")
    enrolled.stock(redis_client, "plain")
    said = run(processes, *words, code=2)
    assert says in said and "Traceback" not in said
    assert trail(redis_client) == []
