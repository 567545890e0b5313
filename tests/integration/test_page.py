"""The operations page: what it shows, that it escapes all of it, and that it outlives Redis."""

import json
import re
import shlex
import time
from collections.abc import Iterator

import enrolled
import httpx
import page_reader
import pytest
import redis
import sample_tasks
from asking import Ask
from hands import Hands
from letters import bury_many
from mall_floor import Floor
from page_reader import MARKUP, Page
from processes import wait_for
from servers import Server
from web_site import serving

from jobs import keys
from jobs.errors import Permanent
from jobs.mall import entries, periodic
from jobs.queue import dead_letters, pools
from jobs.queue.calling import enqueue
from jobs.setting_values import ApiKey, Range, hash_api_key
from jobs.settings import Settings
from scheduler.periodic import Registration

KEY = "a-key-of-24-characters-x"


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def count_people(ask: Ask, hands: Hands, settings: Settings, *events: tuple[str, str, int]) -> None:
    """Accepts events of (gate, direction, people) and counts them."""
    now = time.time()
    bodies = [
        json.dumps({"gate": gate, "direction": direction, "count": people, "event_id": f"{gate}-{number}"}).encode()
        for number, (gate, direction, people) in enumerate(events)
    ]
    found = [entries.parse(body, settings=settings, zone=settings.zone, now=now) for body in bodies]
    ask(lambda client: entries.ingest(client, found, settings=settings, now=now))
    hands.work_off("entries")


def bury(hands: Hands, job_id: str, reason: str = "no such street") -> None:
    """Makes a dead letter."""
    enqueue(hands.client, sample_tasks.fail.spec("x", job_id=job_id), now=time.time())
    hands.fail(hands.must_claim("default"), Permanent(reason))


@pytest.mark.parametrize("api_keys", [(), (ApiKey("till", hash_api_key(KEY)),)], ids=["without keys", "with a key"])
def test_the_commands_that_an_empty_page_prints_work(
    redis_client: redis.Redis, settings: Settings, api_keys: tuple[ApiKey, ...]
) -> None:
    keyed = Settings(redis_url=settings.redis_url, api_keys=api_keys)
    with serving(keyed) as site:
        site.headers["Authorization"] = f"Bearer {KEY}"
        shown = page_reader.read(site)
        assert "No entries yet" in shown.text and "No orders yet" in shown.text
        assert "No worker runs" in shown.text and "None is registered" in shown.text
        for command in shown.commands[:2]:
            words = shlex.split(command.replace("$KEY", KEY))
            headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")  # what curl says of -d
            answer = httpx.post(words[1], content=words[words.index("-d") + 1], headers=headers, trust_env=False)
            assert answer.status_code == 202, answer.text
        after = page_reader.read(site).text
    assert "1 accepted" in after and "1 orders in all" in after


def test_the_page_shows_people_orders_queues_workers_dead_letters_and_periodic_jobs(
    site: httpx.Client, redis_client: redis.Redis, ask: Ask, hands: Hands, floor: Floor, settings: Settings
) -> None:
    count_people(ask, hands, settings, ("north", "in", 900), ("north", "in", 300), ("north", "out", 200), ("south", "in", 3))
    floor.order(("A", 1))
    hands.work_off("picking", "packing")
    floor.order(("A", 1), countdown_s=3_600)
    bury(hands, "lost")
    enrolled.stock(redis_client, "w1", state="busy", current_job="j1", successful_job_count="1234")
    Registration(redis_client, periodic.table(Settings())).tick(time.time())
    shown = page_reader.read(site)
    for words in (
        "In 1,203 Out 200 Inside now 1,003",
        "north 1,200 200",
        "south 3 0",
        "Events: 4 accepted = 4 counted + 0 pending",
        "2 orders in all",
        "1 dead letter waits",
        "No worker serves queue delivery",
        "Permanent: no such street",
        "● busy j1",
        "1,234",
        "footfall-rollup 5 * * * * UTC never in",
    ):
        assert words in shown.text, words
    links = {attributes.get("href", "") for tag, attributes in shown.elements if tag == "a"}
    assert {"/v1/dead-letters/lost", "/rq/0/view/job/lost", "/v1/jobs/j1", "/v1/orders?status=delivering"} <= links
    for link in ("/v1/dead-letters/lost", "/rq/0/view/job/lost", "/v1/orders?status=delivering"):
        assert site.get(link).status_code == 200, link


def test_the_page_shows_each_worker_s_share_and_each_pool(site: httpx.Client, redis_client: redis.Redis) -> None:
    enrolled.beat(redis_client, "w1", "delivery", busy=3, size=8, within=Range(2, 20))
    enrolled.beat(redis_client, "w2", "delivery", busy=0, size=2, within=Range(2, 20))
    enrolled.beat(redis_client, "w3", "packing", kind="cpu", size=2, memory_bytes=200 * 2**20)
    pools.scale(redis_client, "packing", Range(1, 2))
    pools.scale(redis_client, "entries", Range(5, 5))
    shown = page_reader.read(site)
    for words in (
        "delivery ● busy 3 of 8 range 2..20 50 MiB",
        "packing ○ idle 0 of 2 range 1..2 200 MiB",
        "w1 io, started",
        "w3 cpu, started",
        "delivery 2 3 of 10 2..20 by its settings Scale entries",
        "packing 1 0 of 2 1..2 set here Scale Default",
        "entries 0 · 5..5 set here Scale Default",
    ):
        assert words in shown.text, words
    bars = {element["aria-label"]: (element["value"], element["max"]) for tag, element in shown.elements if tag == "progress"}
    assert bars["Running in w1"] == ("3", "8") and bars["Running in pool delivery"] == ("3", "10")
    assert shown.form("scale-pool", "delivery")["range"] == "2..20"


def test_untrusted_text_is_text(
    site: httpx.Client, redis_client: redis.Redis, ask: Ask, hands: Hands, floor: Floor, settings: Settings
) -> None:
    gate = MARKUP[: entries.MAX_NAME]
    count_people(ask, hands, settings, (gate, "in", 1))
    bury(hands, "lost", MARKUP)
    redis_client.hset(
        keys.job("lost"), mapping={"task": f"task{MARKUP}", "error_type": f"type{MARKUP}", "group": f"group{MARKUP}"}
    )
    redis_client.hset(keys.job(f"id{MARKUP}"), mapping=redis_client.hgetall(keys.job("lost")))
    redis_client.zadd(keys.DEAD, {f"id{MARKUP}": time.time()})
    enrolled.stock(redis_client, f"worker{MARKUP}", queues=f"served{MARKUP}", state=f"state{MARKUP}", current_job=f"job{MARKUP}")
    more = {field: f"{field}{MARKUP}" for field in ("hostname", "kind", "pool")}
    redis_client.hset(keys.worker(f"worker{MARKUP}"), mapping=more)
    redis_client.sadd(keys.QUEUES, keys.queue(f"queue{MARKUP}"))
    redis_client.rpush(keys.queue(f"queue{MARKUP}"), "j")
    redis_client.sadd(keys.PERIODIC, f"periodic{MARKUP}")
    redis_client.hset(keys.SCHEDULER, mapping={"name": f"scheduler{MARKUP}", "heartbeat_at": repr(time.time())})
    redis_client.xadd(keys.AUDIT, {"at": "1", "what": f"what{MARKUP}", "who": f"who{MARKUP}", "target": f"target{MARKUP}"})
    shown = page_reader.read(site)
    shown.check_escaped()
    for kind in ("task", "type", "worker", "kind", "pool", "served", "state", "queue", "periodic", "scheduler", "what", "who"):
        assert f"{kind}{MARKUP}" in shown.text, kind
    assert gate in shown.text
    confirmed = page_reader.read(site, str(httpx.URL("/actions/discard", params={"target": f"id{MARKUP}"})))
    confirmed.check_escaped()
    assert f"task{MARKUP}" in confirmed.text and f"id{MARKUP}" in confirmed.text


def test_a_slip_is_json_for_programs_and_a_page_for_people(site: httpx.Client, hands: Hands, floor: Floor) -> None:
    order_id = floor.order(("A", 2), ("B", 1), reference="r-1")
    path = f"/v1/orders/{order_id}/slip"
    for missing in (path, "/v1/orders/nothing/slip"):
        assert site.get(missing).headers["content-type"] == "application/problem+json"
        assert "No packing slip" in page_reader.read(site, missing, 404).text
    hands.work_off("picking", "packing")
    answer = site.get(path)
    assert answer.headers["content-type"] == "application/json" and answer.headers["vary"] == "Accept"
    assert (answer.json()["items"], answer.json()["weight_g"], answer.json()["reference"]) == (3, 750, "r-1")
    shown = page_reader.read(site, path)
    assert "Packing slip r-1" in shown.text and "0.75 kg" in shown.text and "a price is missing" in shown.text
    assert not [tag for tag, _ in shown.elements if tag == "script"]


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("Text/HTML,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html;q=0.5, application/json", False),
        (";;,,;q=", False),
    ],
)
def test_a_slip_is_a_page_for_those_who_ask_for_html_and_not_for_json(
    site: httpx.Client, hands: Hands, floor: Floor, accept: str, page: bool
) -> None:
    order_id = floor.order(("A", 1))
    hands.work_off("picking", "packing")
    answer = site.get(f"/v1/orders/{order_id}/slip", headers={"Accept": accept})
    assert answer.headers["content-type"] == ("text/html; charset=utf-8" if page else "application/json")


def test_a_slip_escapes_what_the_client_sent(site: httpx.Client, hands: Hands, floor: Floor) -> None:
    fields = {name: f"{name}{MARKUP}" for name in ("reference", "customer", "country")}
    order_id = floor.order((f"sku{MARKUP}", 1), **fields)
    hands.work_off("picking", "packing")
    shown = page_reader.read(site, f"/v1/orders/{order_id}/slip")
    shown.check_escaped()
    assert all(f"{name}{MARKUP}" in shown.text for name in ("sku", *fields))


@pytest.mark.parametrize("path", ["/", "/?fragment=1", "/actions/discard?target=x", "/actions/nothing", "/v1/orders/x/slip"])
def test_every_page_has_the_strict_policy(site: httpx.Client, path: str) -> None:
    headers = site.get(path, headers={"Accept": "text/html"}).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy.pop("default-src") == policy.pop("base-uri") == policy.pop("frame-ancestors") == "'none'"
    assert set(policy.values()) == {"'self'"} and {"script-src", "style-src", "form-action"} <= policy.keys()
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"


def test_files_are_served_under_urls_that_change_with_their_content(site: httpx.Client) -> None:
    files = {
        (a.get("src") or a.get("href", "")) for tag, a in page_reader.read(site).elements if tag in ("script", "link", "img")
    }
    assert len(files) == 3
    for file in files:
        assert re.fullmatch(r"/static/[a-z]+\.(js|css|svg)\?v=[0-9a-f]{10}", file)
        answer = site.get(file)
        assert answer.status_code == 200 and answer.headers["cache-control"] == "max-age=86400"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert site.get("/static/../page.py").status_code == site.get("/static/..%2fpage.py").status_code == 404


def test_the_fragment_is_the_main_part_of_the_page(site: httpx.Client) -> None:
    whole, part = site.get("/").text, site.get("/?fragment=1").text
    assert part.startswith('<div class="banners"') and "<html" not in part
    titles = re.findall(r"<h2 id=\"[a-z-]+\">", part)
    assert titles == re.findall(r"<h2 id=\"[a-z-]+\">", whole) and len(titles) == 9


def test_a_flood_of_dead_letters_is_counted_whole_and_shown_in_part(site: httpx.Client, redis_client: redis.Redis) -> None:
    bury_many(redis_client, [f"j{number:03}" for number in range(601)], time.time())
    shown = page_reader.read(site).text
    assert "601 dead letters wait" in shown and "601 sample.fail ValueError" in shown
    assert "593 more at /v1/dead-letters" in shown


def test_hundreds_of_queues_and_thousands_of_letters_and_groups_with_hostile_names_make_a_page_of_bounded_size(
    site: httpx.Client, redis_client: redis.Redis
) -> None:
    bury_many(redis_client, [f"j{number:04}" for number in range(5_000)], time.time() - 60, n_groups=1_500)
    for number in range(200):
        queue = f"{number:03}/../{MARKUP}"
        redis_client.sadd(keys.QUEUES, keys.queue(queue))
        redis_client.rpush(keys.queue(queue), f"{MARKUP}{number}")
        redis_client.set(keys.paused(queue), "1")
    answer = site.get("/")
    shown = Page(answer.text)
    shown.check_escaped()
    assert len(answer.content) < 300_000
    assert "No worker serves 195 more queues" in shown.text and "and 195 more" in shown.text
    assert "5,000 dead letters wait" in shown.text and "151 more at /v1/queues" in shown.text
    assert len(site.get("/v1/dead-letters").json()["groups"]) == dead_letters.GROUPS_SHOWN


def test_while_redis_is_away_the_page_answers_503_with_a_banner_and_comes_back(settings: Settings) -> None:
    server = Server()
    server.start()
    try:
        with serving(Settings(redis_url=server.url)) as site:
            assert page_reader.read(site).text
            server.kill()
            for path in ("/", "/?fragment=1"):
                answer = site.get(path)
                assert answer.status_code == 503 and 1 <= int(answer.headers["retry-after"]) <= 3
                assert "Redis does not answer" in answer.text and "Traceback" not in answer.text
                assert "content-security-policy" in answer.headers
            assert "Redis does not answer" in page_reader.read(site, "/actions/discard?target=x", 503).text
            server.start()
            wait_for(lambda: site.get("/").status_code == 200, 10, "the page is back")
            assert "All is well" not in Page(site.get("/").text).text
    finally:
        server.remove()
