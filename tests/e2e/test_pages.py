"""What an operator sees in a browser, on the whole system."""

from collections.abc import Iterator

import chromium
import pytest
from system import System

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Browser]:
    """A headless Chromium."""
    with chromium.running_browser() as running:
        yield running


def shows(browser: chromium.Browser, *texts: str) -> None:
    """Waits until the page shows the texts, without a reload."""
    for text in texts:
        browser.wait_for(f"document.body.innerText.includes({text!r})", 20)


def test_the_operations_page_counts_along(system: System, browser: chromium.Browser) -> None:
    browser.open(f"{system.url}/")
    shows(browser, "People today", "Orders", "Queues", "Workers", "Dead letters", "Periodic jobs", "footfall-rollup")
    browser.evaluate("window.sameDocument = true")
    for number in range(7):
        system.ask("POST", "/v1/entries", json={"gate": "the-south-gate", "event_id": f"page-{number}", "count": 3})
    order_id = system.order("page-order")
    system.until(order_id, "delivered")
    shows(browser, "the-south-gate", "21", "delivered")
    assert browser.evaluate("window.sameDocument") is True, "it was refreshed without a reload"
    system.carrier.tell(mode="reject")
    dead = system.order("page-dead")
    system.until(dead, "dead")
    system.carrier.tell(mode="ok")
    shows(browser, "Permanent", "orders.deliver")
    assert browser.console_errors == []


def test_rq_dashboard_shows_the_queues_workers_and_failed_jobs_of_the_system(system: System, browser: chromium.Browser) -> None:
    browser.open(f"{system.url}/rq/")
    shows(browser, "delivery", "entries", "packing", "picking")
    browser.open(f"{system.url}/rq/0/view/workers")
    shows(browser, *(f"{queue}-" for queue in ("delivery", "entries", "packing", "picking", "default")))
    browser.open(f"{system.url}/rq/0/view/jobs/delivery/failed/8/asc/1")
    shows(browser, "orders.deliver(")
    assert browser.console_errors == []


def test_the_api_documentation_is_served_without_anything_from_outside(system: System, browser: chromium.Browser) -> None:
    browser.requested.clear()
    browser.open(f"{system.url}/docs")
    shows(browser, "/v1/entries", "/v1/orders/{id}/cancel", "/v1/dead-letters")
    assert browser.console_errors == []
    assert [url for url in browser.requested if not url.startswith((system.url, "data:", "about:"))] == []
