"""/metrics and /hirefire: true figures from Redis, the same from every web process, in the formats their readers expect."""

import re
import time
from collections.abc import Iterator

import httpx
import pytest
import redis
import sample_tasks
from asking import Ask
from hands import Hands
from mall_floor import Floor
from processes import ROOT
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from web_site import serving

from jobs import keys, procfile
from jobs.errors import Permanent
from jobs.mall import entries, periodic
from jobs.queue import overview
from jobs.queue.calling import enqueue
from jobs.settings import Settings
from scheduler.periodic import Registration
from web.metrics import PROCESSES

TOKEN = "hire-fire-token"
HOSTILE = 'a"b\\c\nd{e="f"} 1'


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def scrape(site: httpx.Client) -> dict[str, float]:
    """`name{label="value",...}` -> value."""
    answer = site.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return samples(list(text_string_to_metric_families(answer.text)))


def samples(families: list[Metric]) -> dict[str, float]:
    found = {}
    for family in families:
        assert family.documentation, family.name
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_an_empty_system_has_zeros_and_no_scheduler(site: httpx.Client) -> None:
    found = scrape(site)
    assert found["turnstile_entries_accepted_total"] == found["turnstile_dead_letters"] == found["turnstile_scheduler_up"] == 0
    assert found["turnstile_orders{status=delivered}"] == found["turnstile_scheduler_done_total{what=promoted}"] == 0
    assert "turnstile_scheduler_heartbeat_age_seconds" not in found
    assert found["turnstile_redis_memory_bytes"] > 100_000 and found["turnstile_redis_memory_max_bytes"] == 0


def test_entries_orders_jobs_and_dead_letters_are_counted(
    site: httpx.Client, redis_client: redis.Redis, ask: Ask, hands: Hands, floor: Floor, settings: Settings
) -> None:
    now = time.time()
    found = [
        entries.parse(b'{"gate": "g", "event_id": "%d"}' % number, settings=settings, zone=settings.zone, now=now)
        for number in range(5)
    ]
    ask(lambda client: entries.ingest(client, found[:3], settings=settings, now=now - 60))
    hands.work_off("entries")
    ask(lambda client: entries.ingest(client, found[3:], settings=settings, now=now - 60))
    order_id = floor.order(("A", 1))
    floor.order(("A", 1))
    floor.cancel(order_id)
    enqueue(redis_client, sample_tasks.fail_later.spec("x"), now=now - 30)
    hands.fail(hands.must_claim("default"), ValueError("x"))
    enqueue(redis_client, sample_tasks.refuse.spec("x"), now=now - 30)
    hands.fail(hands.must_claim("default"), Permanent("x"))
    enqueue(redis_client, sample_tasks.add.spec(1, 2), now=now - 30)
    hands.must_claim("default")
    hands.reclaim("default")
    measured = scrape(site)
    expected = {
        "turnstile_entries_accepted_total": 5,
        "turnstile_entries_counted_total": 3,
        "turnstile_entries_pending": 2,
        "turnstile_orders{status=accepted}": 1,
        "turnstile_orders{status=cancelled}": 1,
        "turnstile_queue_depth{queue=entries}": 1,
        "turnstile_queue_depth{queue=default}": 1,
        "turnstile_queue_paused{queue=default}": 0,
        "turnstile_jobs_finished_total{queue=entries}": 1,
        "turnstile_jobs_retried_total{queue=default}": 1,
        "turnstile_jobs_dead_total{queue=default}": 1,
        "turnstile_jobs_reclaimed_total{queue=default}": 1,
        "turnstile_dead_letters": 1,
        "turnstile_workers{queue=default,state=idle}": 0,
    }
    assert {name: measured[name] for name in expected} == expected
    assert 59 < measured["turnstile_entries_lag_seconds"] < 90
    assert 59 < measured["turnstile_queue_oldest_age_seconds{queue=entries}"] < 90


def test_a_gauge_of_workers_counts_them_at_each_queue_that_they_serve(site: httpx.Client, redis_client: redis.Redis) -> None:
    redis_client.sadd(keys.QUEUES, keys.queue("a"), keys.queue("b"), keys.queue("a.high"))
    for name, queues, state in (("w1", "a,b", "busy"), ("w2", "b", "busy"), ("w3", "b", "idle")):
        redis_client.hset(keys.worker(name), mapping={"queues": queues, "state": state})
        redis_client.sadd(keys.WORKERS, keys.worker(name))
    found = {name: value for name, value in scrape(site).items() if name.startswith("turnstile_workers")}
    assert found == {
        "turnstile_workers{queue=a,state=busy}": 1,
        "turnstile_workers{queue=a,state=idle}": 0,
        "turnstile_workers{queue=a.high,state=busy}": 1,
        "turnstile_workers{queue=a.high,state=idle}": 0,
        "turnstile_workers{queue=b,state=busy}": 2,
        "turnstile_workers{queue=b,state=idle}": 1,
    }


def test_a_scheduler_is_up_as_long_as_its_heartbeat_is_young(site: httpx.Client, redis_client: redis.Redis) -> None:
    fields = {"name": "s1", "pid": 7, "promoted": 12, "reclaimed": 3}
    for age_s, up in ((2.0, 1), (11.0, 0)):
        redis_client.hset(keys.SCHEDULER, mapping={**fields, "heartbeat_at": repr(time.time() - age_s)})
        found = scrape(site)
        assert found["turnstile_scheduler_up"] == up
        assert age_s <= found["turnstile_scheduler_heartbeat_age_seconds"] < age_s + 5
    done = {name: value for name, value in found.items() if name.startswith("turnstile_scheduler_done")}
    assert done == {"turnstile_scheduler_done_total{what=promoted}": 12, "turnstile_scheduler_done_total{what=reclaimed}": 3}


def test_what_waits_and_how_late_it_is_are_read_live(site: httpx.Client, redis_client: redis.Redis, settings: Settings) -> None:
    now = time.time()
    Registration(redis_client, periodic.table(settings)).tick(now)
    redis_client.hset(keys.periodic("cleanup"), mapping={"runs": 7, "skipped": 2, "missed": 3})
    enqueue(redis_client, sample_tasks.add.spec(1, 2), now=now, due_at=now + 3_600)
    redis_client.hset(keys.SCHEDULER, mapping={"heartbeat_at": repr(now), "epoch": 4})
    found = scrape(site)
    expected = {
        "turnstile_scheduler_epoch": 4,
        "turnstile_scheduler_lag_seconds": 0,
        "turnstile_scheduled_jobs{set=rq:scheduler:scheduled_jobs}": 1,
        "turnstile_scheduled_jobs{set=rq:scheduled:default}": 0,
        "turnstile_periodic_runs_total{name=cleanup}": 7,
        "turnstile_periodic_skipped_total{name=cleanup}": 2,
        "turnstile_periodic_missed_total{name=cleanup}": 3,
        "turnstile_periodic_overdue_seconds{name=cleanup}": 0,
    }
    assert {name: found[name] for name in expected} == expected
    redis_client.zadd(keys.SCHEDULED_JOBS, {"cron-cleanup": now - 100})
    late = scrape(site)
    assert late["turnstile_scheduler_lag_seconds"] >= late["turnstile_periodic_overdue_seconds{name=cleanup}"] >= 100


def test_names_from_outside_cannot_break_the_format(site: httpx.Client, redis_client: redis.Redis) -> None:
    redis_client.sadd(keys.QUEUES, keys.queue(HOSTILE))
    redis_client.hset(keys.worker("w"), mapping={"queues": HOSTILE, "state": HOSTILE})
    redis_client.sadd(keys.WORKERS, keys.worker("w"))
    found = scrape(site)
    assert found[f"turnstile_queue_depth{{queue={HOSTILE}}}"] == 0
    assert found[f"turnstile_workers{{queue={HOSTILE},state={HOSTILE}}}"] == 1


def test_a_scraper_may_ask_for_openmetrics(site: httpx.Client) -> None:
    answer = site.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = list(parse_openmetrics(answer.text))  # type: ignore[no-untyped-call]  # prometheus_client 0.26 has no types here
    assert samples(families).keys() == scrape(site).keys()


def test_all_web_processes_answer_alike(redis_client: redis.Redis, settings: Settings, floor: Floor) -> None:
    floor.order(("A", 1))
    with serving(settings) as one, serving(settings) as other:
        ages = ("_bytes", "_seconds")
        first, second = (
            {name: value for name, value in scrape(site).items() if not name.partition("{")[0].endswith(ages)}
            for site in (one, other)
        )
    assert first == second and len(first) > 20


@pytest.mark.parametrize("configured", ["", TOKEN])
@pytest.mark.parametrize("asked", ["", "wrong", TOKEN + "x", TOKEN[:-1], "%00", "é"])
def test_hirefire_needs_the_token(redis_client: redis.Redis, settings: Settings, configured: str, asked: str) -> None:
    with serving(Settings(redis_url=settings.redis_url, hirefire_token=configured)) as site:
        assert site.get(f"/hirefire/{asked}/info").status_code == 404


def test_hirefire_is_told_the_jobs_that_are_ready_and_started(
    redis_client: redis.Redis, settings: Settings, hands: Hands, floor: Floor
) -> None:
    now = time.time()
    floor.order(("A", 1))
    for number in range(3):
        enqueue(redis_client, sample_tasks.add.spec(number, 2), now=now)
    hands.must_claim("default")  # started
    hands.fail(hands.must_claim("default"), ValueError("x"), now=now)  # waits for its backoff
    enqueue(redis_client, sample_tasks.add.spec(9, 2), now=now, due_at=now + 3_600)
    with serving(Settings(redis_url=settings.redis_url, hirefire_token=TOKEN)) as site:
        found = {entry["name"]: entry["value"] for entry in site.get(f"/hirefire/{TOKEN}/info").json()}
    assert found == {"counter": 0, "picker": 1, "packer": 0, "courier": 0, "worker": 2}


def test_hirefire_names_the_processes_of_the_procfile() -> None:
    lines = procfile.parse((ROOT / "Procfile").read_text())
    found = {name: re.sub(r".* rq worker (-w \S+ )?", "", line).split() for name, line in lines.items() if " rq worker " in line}
    assert found == {name: list(queues) for name, queues in PROCESSES.items()}


def test_figures_are_those_of_the_overview(site: httpx.Client, redis_client: redis.Redis, floor: Floor) -> None:
    floor.order(("A", 1))
    (picking,) = overview.queues(redis_client, time.time())
    assert scrape(site)["turnstile_queue_depth{queue=picking}"] == picking.depth == 1
