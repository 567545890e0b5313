"""rq-dashboard in a real Chromium: nothing that was planted runs as script, and the pages work under their policy."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import chromium
import dashboard_site as ground
import httpx
import pytest
import redis

from jobs.errors import Conflict

pytestmark = pytest.mark.browser
JOB = "planted"


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Browser]:
    with chromium.running_browser() as running:
        yield running


@pytest.fixture
def site(redis_client: redis.Redis) -> Iterator[httpx.Client]:
    with ground.serving(redis_client) as http:
        yield http


def address(site: httpx.Client, path: str) -> str:
    return str(site.base_url).rstrip("/") + path


def plant_script(client: redis.Redis, tmp_path: Path) -> None:
    """A failed job with script in every field that a page prints, and everything else that `plant` knows."""
    job = ground.queue(client).enqueue(
        "math.sqrt", ground.IMG.format("argument"), description=ground.IMG.format("description"), job_id=JOB
    )
    job.meta = {"note": ground.IMG.format("meta")}
    job.save_meta()
    ground.run_jobs(client)
    ground.plant(client, tmp_path / "trap")
    stream = f"rq:results:{JOB}"
    client.delete(stream)
    client.xadd(stream, {"type": "2", "exc_string": ground.packed(ground.IMG.format("exc_info"))})
    client.hset(f"rq:job:{JOB}", "origin", ground.IMG.format("origin"))
    client.sadd(f"rq:job::{JOB}:dependencies", ground.IMG.format("dependency"))
    ground.register_worker(client, ground.IMG.format("worker2"), JOB)
    client.hset(
        f"rq:worker:{ground.IMG.format('worker2')}",
        mapping={"version": '"' + ground.IMG.format("version"), "python_version": "x"},
    )


PAGES = {
    "queues": ("/0/view/queues", "document.querySelectorAll('tr[data-role=queue]').length > 2", "queue"),
    "workers": ("/0/view/workers", "document.querySelectorAll('tr[data-role=worker]').length > 2", "worker2"),
    "queued jobs": ("/0/view/jobs/delivery/queued/200/asc/1", "document.querySelector('tr[data-role=job]')", "description"),
    "failed jobs": ("/0/view/jobs/delivery/failed/200/asc/1", f"document.querySelector('tr[data-job-id={JOB}] pre')", "exc_info"),
    "one job": (f"/0/view/job/{JOB}", "document.querySelector('#job-data pre.exc_info')", "exc_info"),
    "a queue's name": (
        f"/0/view/jobs/{quote(ground.ODD_QUEUES[1])}/queued/8/asc/1",
        "document.querySelector('#jobs td')",
        "queue",
    ),
}


@pytest.mark.parametrize("bypass_policy", [True, False], ids=["escaping alone", "with the policy"])
@pytest.mark.parametrize("page", PAGES)
def test_a_planted_script_is_text(
    browser: chromium.Browser, site: httpx.Client, redis_client: redis.Redis, tmp_path: Path, page: str, bypass_policy: bool
) -> None:
    plant_script(redis_client, tmp_path)
    path, shown, mark = PAGES[page]
    browser.command("Page.setBypassCSP", enabled=bypass_policy)
    browser.open(address(site, path))
    browser.wait_for(shown)
    assert f"window.ran='{mark}'" in browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.querySelectorAll('.container img, .container script:not([type])').length") == 0
    assert browser.evaluate("window.ran") is None
    assert browser.console_errors == []
    live = json.dumps(ground.IMG.format("control"))
    browser.evaluate(f"document.body.insertAdjacentHTML('beforeend', {live})")
    if bypass_policy:
        browser.wait_for("window.ran === 'control'")  # the same text would run if a page printed it unescaped
    else:
        browser.wait_for("document.images.length && document.images[0].complete")
        assert browser.evaluate("window.ran") is None


def test_a_job_without_a_date_is_not_shown_as_a_new_one(
    browser: chromium.Browser, site: httpx.Client, redis_client: redis.Redis, tmp_path: Path
) -> None:
    ground.plant(redis_client, tmp_path / "trap")
    browser.open(address(site, "/0/view/jobs/delivery/failed/200/asc/1"))
    browser.wait_for("document.querySelector('tr[data-job-id=broken-date]')")
    assert browser.evaluate("document.querySelector('tr[data-job-id=broken-date] .creation_date').innerText") == "Invalid Date"


@pytest.mark.parametrize("name", [ground.JS_BREAK, "back\\slash", "quote'\"<&>"])
def test_the_name_of_a_queue_cannot_leave_its_string_in_the_script(
    browser: chromium.Browser, site: httpx.Client, name: str
) -> None:
    browser.command("Page.setBypassCSP", enabled=True)
    browser.open(address(site, f"/0/view/jobs/{quote(name)}/queued/8/asc/1"))
    browser.wait_for("document.querySelector('#jobs td').innerText === 'No jobs.'")
    browser.evaluate("$('#select-queue').click().mouseleave()")
    assert browser.evaluate("window.ran") is None
    assert browser.console_errors == []


def test_the_pages_have_no_button_that_is_refused(
    browser: chromium.Browser, site: httpx.Client, redis_client: redis.Redis
) -> None:
    job = ground.queue(redis_client).enqueue("math.sqrt", -1)
    ground.run_jobs(redis_client)
    browser.command("Page.setBypassCSP", enabled=False)
    for path, ready in (
        ("/0/view/jobs/delivery/failed/8/asc/1", "document.querySelector('#jobs pre')"),
        ("/0/view/jobs/delivery/queued/8/asc/1", "document.querySelector('#jobs td').innerText === 'No jobs.'"),
        (f"/0/view/job/{job.id}", "document.querySelector('#job-data pre')"),
    ):
        browser.open(address(site, path))
        browser.wait_for(ready)
        buttons = browser.evaluate("[...document.querySelectorAll('.container .btn')].map(button => button.innerText)")
        assert set(buttons) <= {"Redrive"}
        assert browser.console_errors == []


def test_a_click_on_redrive_redrives_the_dead_letter(browser: chromium.Browser, redis_client: redis.Redis) -> None:
    job = ground.queue(redis_client).enqueue("math.sqrt", -1)
    ground.run_jobs(redis_client)
    redriven: list[str] = []

    def redrive(job_id: str, who: str) -> None:
        if job_id in redriven:
            raise Conflict("the job is no dead letter")
        redriven.append(job_id)

    with ground.serving(redis_client, redrive=redrive) as site:
        browser.open(address(site, "/0/view/jobs/delivery/failed/8/asc/1"))
        browser.wait_for("document.querySelector('[data-role=requeue-job-btn]')")
        browser.evaluate("document.querySelector('[data-role=requeue-job-btn]').click()")
        browser.wait_for("!document.querySelector('[data-role=requeue-job-btn]')")
        assert redriven == [job.id]
        browser.open(address(site, f"/0/view/job/{job.id}"))
        browser.wait_for("document.querySelector('#requeue-job-btn').offsetParent")
        assert browser.evaluate("document.querySelector('#requeue-job-btn').innerText") == "Redrive"
