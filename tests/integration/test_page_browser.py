"""The operations page in a real Chromium: it stays current, says when it does not, and its buttons work under its policy."""

import base64
import json
import re
import signal
import socket
import time
from collections.abc import Iterator

import chromium
import enrolled
import httpx
import pytest
import redis
import sample_tasks
from chromium import Browser
from hands import Hands
from mall_floor import Floor
from page_reader import MARKUP
from processes import Processes, wait_for
from servers import Server
from web_site import serving

from jobs import keys
from jobs.errors import Permanent
from jobs.mall.orders import Status
from jobs.queue import dead_letters, pools
from jobs.queue.calling import enqueue
from jobs.setting_values import Range
from jobs.settings import Settings

pytestmark = pytest.mark.browser
LIVE = "document.getElementById('pulse-state')?.textContent.includes('Live')"
STALE = "document.body.classList.contains('stale')"
SET_HIDDEN = (
    "Object.defineProperty(document, 'hidden', {{value: {}, configurable: true}});"
    "document.dispatchEvent(new Event('visibilitychange'))"
)
BUTTON = "document.querySelector('form[data-key=\"{} {}\"] button')"


@pytest.fixture(scope="module")
def _chromium() -> Iterator[Browser]:
    with chromium.running_browser() as running:
        yield running


@pytest.fixture
def browser(_chromium: Browser) -> Iterator[Browser]:
    yield _chromium
    _chromium.open("about:blank")  # no page of one test asks for anything in the next


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def bury(hands: Hands, *job_ids: str, reason: str = "no such street") -> None:
    """Makes dead letters."""
    for job_id in job_ids:
        enqueue(hands.client, sample_tasks.fail.spec("x", job_id=job_id), now=time.time())
        hands.fail(hands.must_claim("default"), Permanent(reason))


def click(browser: Browser, button: str) -> None:
    browser.evaluate(f"{button}.click()")


def text_of(browser: Browser, selector: str) -> str:
    return str(browser.evaluate(f"document.querySelector('{selector}').textContent"))


def test_figures_change_without_a_reload_and_focus_scroll_and_selection_stay(
    browser: Browser, site: httpx.Client, redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    bury(hands, "lost1", "lost2")
    floor.order(("A", 1))
    browser.open(str(site.base_url))
    browser.evaluate(f"window.same = {BUTTON.format('redrive', 'lost1')}, window.same.focus(), window.scrollTo(0, 240)")
    browser.evaluate("getSelection().selectAllChildren(document.querySelector('#dead-letters'))")
    before = browser.evaluate("[scrollY, getSelection().toString()]")
    floor.order(("A", 1))
    # A newer letter comes on top, and one above the focused button goes.
    bury(hands, "newest")
    dead_letters.discard(redis_client, "lost2")
    browser.wait_for("document.querySelector('.states .accepted dd').textContent === '2'")
    browser.wait_for("document.querySelector('[data-key=newest]') && !document.querySelector('[data-key=lost2]')")
    assert browser.evaluate("document.activeElement === window.same") is True
    assert browser.evaluate(f"window.same === {BUTTON.format('redrive', 'lost1')}") is True
    assert browser.evaluate("[scrollY, getSelection().toString()]") == before
    assert browser.console_errors == []


def test_every_row_is_that_of_a_fresh_page_after_rows_came_and_went(
    browser: Browser, site: httpx.Client, redis_client: redis.Redis, hands: Hands
) -> None:
    bury(hands, *(f"j{number}" for number in range(6)))
    browser.open(str(site.base_url))
    bury(hands, "k1", "k2")
    for gone in ("j5", "j2"):
        dead_letters.discard(redis_client, gone)
    bury(hands, "other", reason="no stamp")
    browser.wait_for("document.querySelector('[data-key=other]')")
    shape = (
        "(root => [...root.querySelectorAll('tr, .banner, form, dt')]"
        ".map(e => e.dataset.key + ' ' + e.querySelectorAll('*').length + e.className))"
    )
    fresh = f"fetch('/?fragment=1').then(a => a.text()).then(t => {shape}(new DOMParser().parseFromString(t, 'text/html')))"
    assert browser.evaluate(f"{shape}(document.querySelector('main'))") == browser.evaluate(fresh)


def test_buttons_work_under_the_policy(browser: Browser, site: httpx.Client, redis_client: redis.Redis, hands: Hands) -> None:
    bury(hands, "lost", "kept")
    browser.open(str(site.base_url))
    click(browser, BUTTON.format("pause-queue", "default"))
    browser.wait_for(BUTTON.format("resume-queue", "default"))
    assert redis_client.exists(keys.paused("default"))
    click(browser, "document.querySelector('a[href=\"/actions/discard?target=lost\"]')")
    browser.wait_for("document.querySelector('.danger')")
    click(browser, "document.querySelector('.danger')")
    browser.wait_for("location.hash === '#dead-letters' && !document.querySelector('[data-key=lost]')")
    assert [letter.id for letter in dead_letters.page(redis_client, group=None, cursor=None, limit=9)[0]] == ["kept"]
    assert browser.console_errors == []


def test_a_range_that_is_being_typed_outlives_a_refresh_and_scales_the_pool(
    browser: Browser, site: httpx.Client, redis_client: redis.Redis
) -> None:
    enrolled.beat(redis_client, "w1", "packing", busy=1)
    browser.open(str(site.base_url))
    browser.wait_for("window.field = document.querySelector('[data-key=\"scale-pool packing\"] input[name=range]')")
    browser.evaluate("window.field.focus(), window.field.select(), document.execCommand('insertText', false, '2..6')")
    enrolled.beat(redis_client, "w1", "packing", busy=5)
    browser.wait_for("document.querySelector('[data-key=w1] progress').value === 5")
    assert browser.evaluate("[window.field.value, window.field === document.activeElement]") == ["2..6", True]
    click(browser, BUTTON.format("scale-pool", "packing"))
    browser.wait_for("location.hash === '#workers'")
    browser.wait_for(BUTTON.format("unscale-pool", "packing"))
    assert pools.ranges(redis_client) == {"packing": Range(2, 6)}
    assert browser.console_errors == []


def test_without_scripts_the_page_reads_and_its_buttons_work(
    browser: Browser, site: httpx.Client, redis_client: redis.Redis, hands: Hands
) -> None:
    bury(hands, "lost")
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(str(site.base_url))
        assert "Refresh" in text_of(browser, "#pulse-state")
        assert "1 dead letter waits" in text_of(browser, ".banners")
        click(browser, BUTTON.format("redrive", "lost"))
        browser.wait_for("location.hash === '#dead-letters' && document.readyState === 'complete'")
        assert dead_letters.count(redis_client) == 0
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_a_page_that_gets_no_answer_says_for_how_long(browser: Browser, processes: Processes, redis_client: redis.Redis) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    web = processes.start("python", "-m", "web", PORT=str(port))
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: _answers(url), 30, "the web answers")
    browser.open(url)
    browser.wait_for(LIVE)
    web.send(signal.SIGSTOP)
    browser.wait_for(STALE, 20)
    assert "last answer" in text_of(browser, "#pulse-age") and "s ago" in text_of(browser, "#pulse-age")
    web.send(signal.SIGCONT)
    browser.wait_for(f"{LIVE} && !{STALE}", 20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_while_redis_is_away_the_last_figures_stay_below_the_banner(browser: Browser, settings: Settings) -> None:
    server = Server()
    server.start()
    try:
        with serving(Settings(redis_url=server.url)) as site:
            browser.open(str(site.base_url))
            server.kill()
            browser.wait_for(f"{STALE} && document.querySelector('.banner.alarm').textContent.includes('Redis does not answer')")
            assert "Redis does not answer" in text_of(browser, "#pulse-state")
            assert "No orders yet" in text_of(browser, "main")
            server.start()
            browser.wait_for(f"{LIVE} && !document.querySelector('.banners').textContent.includes('Redis does not answer')", 20)
    finally:
        server.remove()


def test_a_hidden_tab_asks_for_nothing_and_catches_up_at_once(
    browser: Browser, site: httpx.Client, redis_client: redis.Redis, floor: Floor
) -> None:
    browser.open(str(site.base_url))
    browser.wait_for(LIVE)
    browser.evaluate(SET_HIDDEN.format("true"))
    asked = len(browser.requested)
    floor.order(("A", 1))
    # Hidden for longer than the page waits between two looks: another timer of the same page tells when.
    browser.evaluate("new Promise(resolve => setTimeout(resolve, 3000))")
    assert len(browser.requested) <= asked + 1, "one may have been under way"
    assert text_of(browser, "#orders + *").startswith("No orders yet")
    browser.evaluate(SET_HIDDEN.format("false"))
    browser.wait_for("document.querySelector('.states .accepted dd')?.textContent === '1'", 1.5)


@pytest.mark.parametrize("bypass_policy", [True, False], ids=["escaping alone", "with the policy"])
def test_a_planted_script_does_not_run_also_when_it_arrives_with_a_refresh(
    browser: Browser, site: httpx.Client, redis_client: redis.Redis, hands: Hands, bypass_policy: bool
) -> None:
    browser.command("Page.setBypassCSP", enabled=bypass_policy)
    try:
        browser.open(str(site.base_url))
        bury(hands, "lost", reason=MARKUP)
        redis_client.sadd(keys.QUEUES, keys.queue(f"queue{MARKUP}"))
        browser.wait_for("document.querySelector('main').textContent.includes('onerror')")
        browser.wait_for(f"document.querySelector('main').textContent.includes({json.dumps(f'queue{MARKUP}')})")
        assert browser.evaluate("[window.ran, document.querySelectorAll('main img, main script').length]") == [None, 0]
        assert browser.console_errors == []
    finally:
        browser.command("Page.setBypassCSP", enabled=False)


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_and_text_has_contrast(
    browser: Browser, site: httpx.Client, redis_client: redis.Redis, hands: Hands, floor: Floor, width: int, scheme: str
) -> None:
    bury(hands, "a-rather-long-id-of-a-job-that-nobody-would-choose-by-hand", reason="word" * 100)
    floor.order(("A", 1))
    enrolled.beat(redis_client, "packing-default-4711-a1b2c3", "packing", "default", busy=37, size=64, within=Range(10, 100))
    enrolled.stock(redis_client, "d1c0ffee5f3b4a0e9a52b1d1c0ffee5f", state="busy", current_job="j" * 60)
    browser.command("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        browser.open(str(site.base_url))
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        ratios = browser.evaluate(CONTRAST)
        assert len(ratios) > 40
        assert [found for found in ratios if found[0] < 4.5] == []
    finally:
        browser.command("Emulation.clearDeviceMetricsOverride")
        browser.command("Emulation.setEmulatedMedia", features=[])


CONTRAST = """
(() => {
  const linear = (value) => (value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4);
  const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map((part) => linear(part / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if (color !== 'rgba(0, 0, 0, 0)') return color;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.body.querySelectorAll('*')]
    .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
    .map((node) => {
      const [one, other] = [light(getComputedStyle(node).color), light(ground(node))].sort((a, b) => b - a);
      return [(one + .05) / (other + .05), node.tagName, node.textContent.trim().slice(0, 40)];
    });
})()
"""
"""The contrast of every text on the page with what is behind it (WCAG 2.2, 1.4.3)."""


def test_a_slip_prints_on_a4_without_scripts(browser: Browser, site: httpx.Client, hands: Hands, floor: Floor) -> None:
    order_id = floor.order(*((f"SKU-{number}", 2) for number in range(60)), reference="r-1")
    hands.work_off("picking", "packing")
    browser.open(f"{site.base_url}/v1/orders/{order_id}/slip")
    assert "Packing slip" in text_of(browser, "h1") and browser.evaluate("document.scripts.length") == 0
    printed = base64.b64decode(browser.command("Page.printToPDF", preferCSSPageSize=True)["data"])
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed)
    assert len(boxes) > 1, "sixty lines need more than one sheet"
    assert {(round(float(width)), round(float(height))) for width, height in boxes} == {(595, 842)}
    assert browser.console_errors == []


def test_statuses_are_in_the_order_of_an_order_s_life(browser: Browser, site: httpx.Client, floor: Floor) -> None:
    floor.order(("A", 1))
    browser.open(str(site.base_url))
    shown = browser.evaluate("[...document.querySelectorAll('.states dt')].map((e) => e.textContent)")
    assert shown == [status.value for status in Status]
