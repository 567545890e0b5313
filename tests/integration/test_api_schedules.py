"""Periodic and delayed jobs as operators see and steer them: over HTTP and from a terminal."""

import getpass
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import redis
import sample_tasks
from hands import Hands
from mall_floor import Floor
from processes import Processes
from snapshots import changes, snapshot
from web_site import serving

from jobs import keys
from jobs.__main__ import COMMANDS
from jobs.mall import periodic
from jobs.queue import audit, delayed
from jobs.queue.calling import enqueue
from jobs.settings import Settings
from scheduler.periodic import Registration

COMMAND = f"import sys; from {COMMANDS['schedules'][0]} import main; sys.exit(main(sys.argv[1:]))"
LIMIT_S = 30.0
HOUR = 3_600.0
NAME = "cleanup"


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    Registration(redis_client, periodic.table(settings)).tick(time.time())
    with serving(settings) as client:
        yield client


def hold(client: redis.Redis, *job_ids: str) -> None:
    for job_id in job_ids:
        enqueue(client, sample_tasks.add.spec(1, 2, job_id=job_id), now=time.time(), due_at=time.time() + HOUR)


def listed(site: httpx.Client, query: str = "") -> list[str]:
    answer = site.get(f"/v1/scheduled?{query}")
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["scheduled"]]


def schedule(site: httpx.Client) -> dict[str, Any]:
    answer = site.get(f"/v1/schedules/{NAME}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# --- HTTP -----------------------------------------------------------------------------------------


def test_a_periodic_job_is_run_out_of_turn_and_its_run_is_shown(site: httpx.Client) -> None:
    asked_at = time.time()
    answer = site.post(f"/v1/schedules/{NAME}/run")
    assert answer.status_code == 202 and site.get(answer.headers["location"]).json()["status"] == "queued"
    assert site.post(f"/v1/schedules/{NAME}/run").status_code == 409
    found = schedule(site)
    [run] = found["last_runs"]
    assert (run["job_id"], run["outcome"], run["duration_s"]) == (answer.json()["id"], "waiting", None)
    assert run["fire_at"] >= asked_at and found["runs"] == 1


def test_a_periodic_job_is_paused_and_resumed(site: httpx.Client, redis_client: redis.Redis) -> None:
    for action, paused in (("pause", True), ("pause", True), ("resume", False)):
        answer = site.post(f"/v1/schedules/{NAME}/{action}")
        assert (answer.status_code, answer.json()) == (200, {"target": NAME, "action": action})
        assert (schedule(site)["paused_at"] is not None) == paused
    deeds = [entry.what for entry in audit.page(redis_client, cursor=None, limit=9)[0]]
    assert deeds == ["resume schedule", "pause schedule"], "the second pause did nothing"


def test_a_periodic_job_that_is_not_in_the_table_is_not_found(site: httpx.Client) -> None:
    assert site.get("/v1/schedules/yearly").status_code == 404
    for action in ("run", "pause", "resume"):
        assert site.post(f"/v1/schedules/yearly/{action}").status_code == 404


def test_delayed_jobs_are_searched_and_paged(site: httpx.Client, redis_client: redis.Redis) -> None:
    hold(redis_client, "a1", "a2", "b1")
    assert listed(site) == ["a1", "a2", "b1"]
    assert listed(site, "q=B1") == ["b1"]
    assert listed(site, f"task={sample_tasks.add.name}&queue=default&q=a&limit=9") == ["a1", "a2", "b1"]
    assert listed(site, "queue=none") == listed(site, "task=none") == []
    cursor = site.get("/v1/scheduled?limit=2").json()["next_cursor"]
    assert listed(site, str(httpx.QueryParams(cursor=cursor, limit=2))) == ["b1"]
    for wrong, field in (("cursor=x", "cursor"), ("limit=0", "limit"), ("color=red", "color")):
        refused = site.get(f"/v1/scheduled?{wrong}")
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)


def test_a_delayed_job_is_run_now_rescheduled_and_cancelled(site: httpx.Client, redis_client: redis.Redis) -> None:
    hold(redis_client, "run", "moved", "cancelled")
    answer = site.post("/v1/scheduled/run/run")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    at = int(time.time() + 7 * HOUR)
    sent = {"at": datetime.fromtimestamp(at, UTC).isoformat()}
    assert site.post("/v1/scheduled/moved/reschedule", json=sent).json()["due_at"] == at
    asked_at = time.time()
    later = site.post("/v1/scheduled/moved/reschedule", json={"countdown_s": 90.5}).json()["due_at"]
    assert asked_at + 90 <= later <= time.time() + 91
    assert site.post("/v1/scheduled/cancelled/cancel").json()["status"] == "canceled"
    assert listed(site) == ["moved"]
    for path in ("run/run", "cancelled/run"):
        assert site.post(f"/v1/scheduled/{path}").status_code == 409
    assert site.post("/v1/scheduled/cancelled/reschedule", json=sent).status_code == 409


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "at"),
        ({"countdown_s": 0}, "at"),
        ({"countdown_s": -1}, "countdown_s"),
        ({"countdown_s": 1e12}, "countdown_s"),
        ({"countdown_s": 1, "at": "2036-01-01T00:00:00Z"}, "at"),
        ({"at": "2006-01-01T00:00:00Z"}, "at"),
        ({"at": "2999-01-01T00:00:00Z"}, "at"),
        ({"at": "2036-01-01T00:00:00"}, "at"),
        ({"at": "soon"}, "at"),
        ({"due": 1}, "due"),
    ],
)
def test_a_time_that_cannot_be_kept_is_refused_by_the_name_of_its_field(
    site: httpx.Client, redis_client: redis.Redis, body: dict[str, Any], field: str
) -> None:
    hold(redis_client, "j1")
    before = snapshot(redis_client)
    answer = site.post("/v1/scheduled/j1/reschedule", json=body)
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert changes(before, snapshot(redis_client)) == {}


def test_a_delayed_order_says_what_to_do_instead_of_cancelling_its_job(
    site: httpx.Client, redis_client: redis.Redis, floor: Floor
) -> None:
    order_id = floor.order(("A", 1), countdown_s=HOUR)
    [job_id] = listed(site)
    for call, body in (("cancel", None), ("reschedule", {"countdown_s": 60})):
        answer = site.post(f"/v1/scheduled/{job_id}/{call}", json=body)
        assert answer.status_code == 409 and "POST /v1/orders/{id}/cancel" in answer.json()["detail"]
    assert site.post(f"/v1/orders/{order_id}/cancel").is_success
    assert listed(site) == []


def test_what_was_never_delayed_is_not_found(site: httpx.Client) -> None:
    for call, body in (("run", None), ("cancel", None), ("reschedule", {"countdown_s": 60})):
        assert site.post(f"/v1/scheduled/none/{call}", json=body).status_code == 404


# --- the command ----------------------------------------------------------------------------------


def ask(processes: Processes, *words: str, code: int = 0) -> str:
    process = processes.start(sys.executable, "-c", COMMAND, *words)
    assert process.ended(LIMIT_S) == code, process.output
    assert "Traceback" not in process.output
    return process.output.strip()


def test_periodic_jobs_are_listed_run_paused_and_resumed_from_a_terminal(
    redis_client: redis.Redis, settings: Settings, processes: Processes, hands: Hands
) -> None:
    Registration(redis_client, periodic.table(settings)).tick(time.time())
    assert f"run {NAME}  job cron-{NAME}-" in ask(processes, "run", NAME)
    assert ask(processes, "pause", NAME) == f"pause {NAME}"
    rows = {line.split()[0]: line for line in ask(processes).splitlines()}
    assert "paused" in rows[NAME] and "waiting" in rows[NAME]
    assert "Z" in rows["daily-report"] and "overdue" not in rows["daily-report"]
    assert ask(processes, "resume", NAME) == f"resume {NAME}"
    found = {one["name"]: one for one in json.loads(ask(processes, "--json"))["schedules"]}
    assert (found[NAME]["paused_at"], found[NAME]["runs"]) == (None, 1)
    assert f"cron-{NAME}-" in ask(processes, "runs", NAME)
    assert "no periodic job with id 'yearly'" in ask(processes, "pause", "yearly", code=2)
    who = f"cli:{getpass.getuser()}"
    deeds = [(entry.what, entry.who) for entry in audit.page(redis_client, cursor=None, limit=9)[0]]
    assert deeds == [("resume schedule", who), ("pause schedule", who), ("run schedule", who)]


def test_delayed_jobs_are_listed_run_rescheduled_and_cancelled_from_a_terminal(
    redis_client: redis.Redis, processes: Processes
) -> None:
    hold(redis_client, "a1", "a2", "b1")
    assert "more with --cursor" in ask(processes, "delayed", "--limit", "2")
    [head, row] = ask(processes, "delayed", "--queue", "default", "--search", "b1").splitlines()
    assert head.split()[0] == "ID" and row.split()[0] == "b1"
    assert ask(processes, "run-job", "a1") == "run a1"
    assert ask(processes, "reschedule", "a2", "--at", "2026-01-01T00:00:00", code=2).count("needs an offset") == 1
    assert "must lie ahead" in ask(processes, "reschedule", "a2", "--at", "2020-01-01T00:00:00+00:00", code=2)
    assert "rescheduled a2  due " in ask(processes, "reschedule", "a2", "--in", "9000")
    assert ask(processes, "cancel", "b1") == "cancelled b1"
    [left] = delayed.page(redis_client, limit=9).scheduled
    assert left.id == "a2" and left.due_at > time.time() + 2 * HOUR
    assert redis_client.lrange(keys.queue("default"), 0, -1) == [b"a1"]
    assert "the job is canceled" in ask(processes, "run-job", "b1", code=2)
