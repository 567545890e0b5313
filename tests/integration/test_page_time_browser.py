"""The delayed jobs on the operations page in a real Chromium."""

import time

import chromium
import pytest
import redis
import sample_tasks
from web_site import serving

from jobs import keys
from jobs.queue.calling import enqueue
from jobs.settings import Settings

pytestmark = pytest.mark.browser


def hold(client: redis.Redis, job_id: str) -> None:
    now = time.time()
    enqueue(client, sample_tasks.add.spec(1, 2, job_id=job_id), now=now, due_at=now + 3_600)


def test_what_is_searched_for_stays_searched_for_while_the_page_stays_current(
    redis_client: redis.Redis, settings: Settings
) -> None:
    with serving(settings) as site, chromium.running_browser() as browser:
        hold(redis_client, "pear")
        hold(redis_client, "apple")
        browser.open(str(site.base_url))
        browser.evaluate("document.querySelector('.search input').value = 'APPL'")
        browser.evaluate("document.querySelector('.search button').click()")
        browser.wait_for("document.querySelector('[data-key=apple]') && !document.querySelector('[data-key=pear]')")
        hold(redis_client, "apple2")
        browser.wait_for("document.querySelector('[data-key=apple2]')")
        assert not browser.evaluate("document.querySelector('[data-key=pear]')")
        browser.evaluate("document.querySelector('form[data-key=\"run-delayed apple\"] button').click()")
        browser.wait_for("location.hash === '#delayed' && !document.querySelector('[data-key=apple]')")
        assert redis_client.lrange(keys.queue("default"), 0, -1) == [b"apple"]
        assert browser.console_errors == []
