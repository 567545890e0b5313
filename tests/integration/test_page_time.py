"""What the operations page shows of time: periodic jobs, delayed jobs, the scheduler; and the buttons for them."""

import re
import time
from collections.abc import Iterator

import httpx
import msgspec
import page_reader
import pytest
import redis
import sample_tasks
from hands import Hands
from mall_floor import Floor
from page_reader import MARKUP, from_own_page, press
from snapshots import changes, snapshot
from web_site import serving

from jobs import keys
from jobs.mall import periodic
from jobs.queue import audit, delayed, job_store, schedules
from jobs.queue.calling import enqueue
from jobs.settings import Settings
from scheduler.periodic import Registration

HOUR = 3_600.0
NAME = "cleanup"


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def hold(client: redis.Redis, *job_ids: str, ahead_s: float = HOUR) -> None:
    for job_id in job_ids:
        now = time.time()
        enqueue(client, sample_tasks.add.spec(1, 2, job_id=job_id), now=now, due_at=now + ahead_s)


def register(client: redis.Redis, settings: Settings) -> None:
    Registration(client, periodic.table(settings)).tick(time.time())


def deeds(client: redis.Redis) -> list[tuple[str, str]]:
    return [(entry.what, entry.target) for entry in reversed(audit.page(client, cursor=None, limit=99)[0])]


def test_a_periodic_job_is_run_paused_and_resumed_by_its_buttons(
    site: httpx.Client, redis_client: redis.Redis, settings: Settings
) -> None:
    register(redis_client, settings)
    assert press(site, "run-schedule", NAME).headers["location"] == "/#periodic"
    shown = page_reader.read(site).text
    assert f"{NAME} 45 3 * * *" in shown and ", waiting" in shown
    again = press(site, "run-schedule", NAME)
    assert again.status_code == 409 and "has not ended" in again.text
    assert press(site, "pause-schedule", NAME).status_code == 303
    assert "‖ paused" in page_reader.read(site).text
    assert press(site, "resume-schedule", NAME).status_code == 303
    assert "‖ paused" not in page_reader.read(site).text
    assert deeds(redis_client) == [("run schedule", NAME), ("pause schedule", NAME), ("resume schedule", NAME)]


def test_the_last_run_is_shown_with_how_it_ended_and_how_long_it_took(
    site: httpx.Client, redis_client: redis.Redis, settings: Settings
) -> None:
    register(redis_client, settings)
    redis_client.hset(keys.periodic(NAME), mapping={"runs": 7, "skipped": 2, "missed": 1_200})
    ended = schedules.Run("cron-x", time.time() - 300, 1.0, 3.5, 2.5, "dead")
    redis_client.lpush(keys.periodic_runs(NAME), msgspec.json.encode(ended))
    shown = page_reader.read(site).text
    assert "▲ dead in 2.5 s" in shown and "7, 2 skipped, 1,200 missed" in shown


def test_delayed_jobs_are_shown_with_when_they_are_due(
    site: httpx.Client, redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    assert "None: no job waits for its time." in page_reader.read(site).text
    hold(redis_client, *(f"j{number}" for number in range(12)), ahead_s=115)
    order_id = floor.order(("A", 1), countdown_s=30)
    enqueue(redis_client, sample_tasks.fail_later.spec(MARKUP, job_id="again"), now=time.time())
    hands.fail(hands.must_claim("default"), ValueError("x"))
    shown = page_reader.read(site)
    shown.check_escaped()
    assert "Delayed jobs 14" in shown.text and "in 1 min" in shown.text
    assert "More at /v1/scheduled" in shown.text
    assert re.search(r"again in .* default sample.fail_later\(.* 1 Run now", shown.text), "one attempt failed"
    [more] = [a["href"] for tag, a in shown.elements if tag == "a" and a.get("href", "").startswith("/v1/scheduled?")]
    answer = site.get(more)
    assert answer.status_code == 200 and len(answer.json()["scheduled"]) == 6
    assert shown.form("run-delayed", f"{order_id}-start"), "an order may be started now"
    cancels = [a["href"] for tag, a in shown.elements if tag == "a" and "cancel-delayed" in a.get("href", "")]
    assert cancels and not any(order_id in link for link in cancels), "but its job is not cancelled alone"


def test_delayed_jobs_are_searched_without_scripts(site: httpx.Client, redis_client: redis.Redis) -> None:
    hold(redis_client, "pear", "apple")
    found = page_reader.read(site, "/?q=APPL")
    assert found.form("run-delayed", "apple")
    with pytest.raises(StopIteration):
        found.form("run-delayed", "pear")
    nothing = page_reader.read(site, str(httpx.URL("/", params={"q": MARKUP})))
    nothing.check_escaped()
    assert "None found." in nothing.text


def test_a_delayed_job_is_run_now_and_one_is_asked_about_before_it_is_cancelled(
    site: httpx.Client, redis_client: redis.Redis
) -> None:
    hold(redis_client, "run", "lost")
    assert press(site, "run-delayed", "run").headers["location"] == "/#delayed"
    assert redis_client.lrange(keys.queue("default"), 0, -1) == [b"run"]
    before = snapshot(redis_client)
    asked = page_reader.read(site, "/actions/cancel-delayed?target=lost")
    assert "Cancel this job?" in asked.text and "UTC" in asked.text
    fields = asked.form("cancel-delayed", "lost")
    unconfirmed = {name: value for name, value in fields.items() if name != "confirmed"}
    answer = site.post("/actions/cancel-delayed", data=unconfirmed, headers=from_own_page(site))
    assert (answer.status_code, answer.headers["location"]) == (303, "/actions/cancel-delayed?target=lost")
    assert changes(before, snapshot(redis_client)) == {}
    assert site.post("/actions/cancel-delayed", data=fields, headers=from_own_page(site)).status_code == 303
    assert job_store.get(redis_client, "lost").status == "canceled"
    assert delayed.page(redis_client, limit=9).scheduled == []
    assert deeds(redis_client) == [("run job", "run"), ("cancel job", "lost")]


def test_the_scheduler_is_shown_with_its_epoch_and_how_late_it_is(site: httpx.Client, redis_client: redis.Redis) -> None:
    assert "None has ever led" in page_reader.read(site).text
    beat = {"heartbeat_at": repr(time.time() + 60), "name": "s1", "pid": 1, "epoch": 3, "promoted": 1_234, "reclaimed": 5}
    redis_client.hset(keys.SCHEDULER, mapping=beat)
    redis_client.zadd(keys.SCHEDULED_JOBS, {"late": time.time() - 65})
    shown = page_reader.read(site).text
    assert "Scheduler s1, epoch 3" in shown and "behind due time 1 min" in shown and "promoted 1,234" in shown
    assert "The scheduler is behind" in shown and "No scheduler leads" not in shown
    redis_client.hset(keys.SCHEDULER, "heartbeat_at", repr(time.time() - 11))
    late = page_reader.read(site).text
    assert "No scheduler leads" in late and "The scheduler is behind" not in late
