"""rq-dashboard behind our guard: it shows the JSON system, runs nothing that was planted, changes nothing."""

import concurrent.futures
import itertools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dashboard_site as ground
import httpx
import pytest
import redis
from rq.job import Job
from servers import Server
from snapshots import snapshot

from jobs import connections
from jobs.errors import Conflict, NotFound
from web.dashboard import dashboard_app
from web.dashboard_jobs import ReadingRedis

LIMIT_S = 20.0


@pytest.fixture
def site(redis_client: redis.Redis) -> Iterator[httpx.Client]:
    with ground.serving(redis_client) as http:
        yield http


def paths(client: redis.Redis, method: str, **values: list[Any]) -> Iterator[str]:
    """Every path that the blueprint answers to a method; an argument that a new version adds is a KeyError here."""
    app: Any = dashboard_app(ground.SHOWN_URL, client, ground.nothing_to_redrive)
    for rule in app.app.url_map.iter_rules():
        if method in rule.methods:
            for choice in itertools.product(*(values[name] for name in sorted(rule.arguments - set(rule.defaults or {})))):
                built = rule.build(dict(zip(sorted(rule.arguments - set(rule.defaults or {})), choice, strict=True)))
                yield built[1]


def places(ids: list[str]) -> dict[str, list[Any]]:
    return {
        "instance_number": [0, 7],
        "queue_name": ["delivery", *ground.ODD_QUEUES],
        "registry_name": [*ground.REGISTRIES, "nonsense"],
        "per_page": [200],
        "order": ["asc", "dsc"],
        "page": [1],
        "job_id": ids,
        "filename": ["css/main.css", "js/nothing.js"],
    }


def test_no_route_runs_what_was_planted_or_fails_or_writes(site: httpx.Client, redis_client: redis.Redis, tmp_path: Path) -> None:
    trap = tmp_path / "the-pickle-was-loaded"
    ids = ground.plant(redis_client, trap)
    before = snapshot(redis_client)
    answers = {path: site.get(path).status_code for path in paths(redis_client, "GET", **places(ids))}
    assert len(answers) > 100
    assert not {path: status for path, status in answers.items() if status not in (200, 403, 404)}
    assert not trap.exists()
    assert snapshot(redis_client) == before
    Job.fetch("pickled-meta", connection=redis_client)  # RQ's own way
    assert trap.exists()


@pytest.mark.parametrize(
    ("job_id", "field"),
    [(job_id, "description") for job_id in ("pickled-data", "pickled-bare", "broken-status", "broken-date", "broken-text")]
    + [(job_id, "description") for job_id in ("broken-number", "broken-call", "deep", "no-data")]
    + [("pickled-meta", "metadata"), ("pickled-result", "result"), ("broken-result", "result")],
)
def test_what_cannot_be_read_is_shown_as_not_readable(
    site: httpx.Client, redis_client: redis.Redis, tmp_path: Path, job_id: str, field: str
) -> None:
    ground.plant(redis_client, tmp_path / "trap")
    assert "not readable" in json.dumps(site.get(f"/0/data/job/{job_id}.json").raise_for_status().json()[field])
    assert site.get(f"/0/view/job/{job_id}").status_code == 200
    if field == "description":
        jobs = site.get("/0/data/jobs/delivery/failed/200/asc/1.json").json()["jobs"]
        assert ["not readable" in job["description"] for job in jobs if job["id"] == job_id] == [True]


def test_the_queues_workers_and_failed_jobs_of_the_json_system_are_shown(site: httpx.Client, redis_client: redis.Redis) -> None:
    fine, failed = (ground.queue(redis_client).enqueue("math.sqrt", n, result_ttl=500) for n in (16, -1))
    ground.run_jobs(redis_client)
    waiting = ground.queue(redis_client).enqueue("math.sqrt", 25, meta={"order": "o-1"})
    ground.register_worker(redis_client, "courier-1", waiting.id)
    (shown,) = site.get("/0/data/queues.json").json()["queues"]
    assert (shown["name"], shown["count"], shown["failed_job_registry_count"], shown["finished_job_registry_count"]) == (
        "delivery",
        1,
        1,
        1,
    )
    (worker,) = site.get("/0/data/workers.json").json()["workers"]
    assert (worker["name"], worker["state"], worker["queues"]) == ("courier-1", "busy", ["delivery"])
    assert worker["current_job"]["job_id"] == waiting.id
    assert worker["current_job"]["call_string"] == "math.sqrt(25)"
    (job,) = site.get("/0/data/jobs/delivery/failed/8/asc/1.json").json()["jobs"]
    assert job["id"] == failed.id
    assert "ValueError" in job["exc_info"]
    assert site.get(f"/0/data/job/{fine.id}.json").json()["result"] == 4.0
    assert json.loads(site.get(f"/0/data/job/{waiting.id}.json").json()["metadata"]) == {"order": "o-1"}


@pytest.mark.parametrize(("registry", "order"), [("queued", "asc"), ("queued", "dsc"), ("failed", "asc"), ("failed", "dsc")])
def test_the_pages_of_a_list_hold_every_job_once(
    site: httpx.Client, redis_client: redis.Redis, registry: str, order: str
) -> None:
    ids = [ground.queue(redis_client).enqueue("math.sqrt", 1, job_id=f"job-{n:02}").id for n in range(10)]
    redis_client.zadd("rq:failed:delivery", {job_id: float(rank) for rank, job_id in enumerate(ids)})
    answers = [site.get(f"/0/data/jobs/delivery/{registry}/4/{order}/{page}.json").json() for page in (1, 2, 3)]
    pages = [[job["id"] for job in answer["jobs"]] for answer in answers]
    assert pages == [list(ids if order == "asc" else ids[::-1])[n : n + 4] for n in (0, 4, 8)]


def test_a_job_with_dependencies_names_them(site: httpx.Client, redis_client: redis.Redis) -> None:
    parent = ground.queue(redis_client).enqueue("math.sqrt", 1)
    child = ground.queue(redis_client).enqueue("math.sqrt", 2, depends_on=[parent])
    job = site.get(f"/0/data/job/{child.id}.json").raise_for_status().json()
    assert (job["status"], job["depends_on"], job["depends_on_status"]) == ("deferred", [parent.id], ["active"])


def test_an_unknown_job_is_a_404_in_the_form_that_was_asked_for(site: httpx.Client) -> None:
    data, page = site.get("/0/data/job/no-such-job.json"), site.get("/0/view/job/no-such-job")
    assert (data.status_code, data.headers["content-type"], data.json()["status"]) == (404, "application/problem+json", 404)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")


@pytest.mark.parametrize("place", ["failed/0/asc/1", "failed/201/asc/1", "failed/abc/asc/1", "failed/-1/asc/1", "failed/8/asc/0"])
def test_a_page_out_of_bounds_does_not_exist(site: httpx.Client, place: str) -> None:
    assert site.get(f"/0/data/jobs/delivery/{place}.json").status_code == 404


def test_nothing_that_changes_state_is_served(site: httpx.Client, redis_client: redis.Redis) -> None:
    failed = ground.queue(redis_client).enqueue("math.sqrt", -1)
    ground.run_jobs(redis_client)
    ground.queue(redis_client).enqueue("math.sqrt", 1)
    before = snapshot(redis_client)
    assert site.get("/requeue/delivery").status_code == 403
    posts = list(paths(redis_client, "POST", **(places([failed.id]) | {"queue_name": ["delivery"]})))
    assert {f"/job/{failed.id}/delete", f"/job/{failed.id}/requeue", "/queue/delivery/queued/empty", "/requeue/delivery"} <= set(
        posts
    )
    for path in set(posts) - {f"/job/{failed.id}/requeue"}:
        answer = site.post(path, headers={"Sec-Fetch-Site": "same-origin"})
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json"), path
        assert "/v1" in answer.json()["detail"]
    for method, path in itertools.product(
        ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"), ("/", "/0/data/queues.json", "/job/x/delete")
    ):
        assert site.request(method, path).status_code == 403
    assert snapshot(redis_client) == before


def test_the_client_of_the_pages_sends_no_write(redis_client: redis.Redis) -> None:
    redis_client.rpush("x", "y")
    client = ReadingRedis(redis_client)
    for command in (("DEL", "x"), ("LREM", "x", 1, "y"), ("EVAL", "return redis.call('DEL', 'x')", 0), ("LPOP", "x")):
        assert client.execute_command(*command) is None
    with pytest.raises(NotImplementedError):
        client.pipeline()
    assert client.lrange("x", 0, -1) == [b"y"]


def test_a_look_at_the_workers_leaves_the_time_limits_of_the_pool_alone(redis_client: redis.Redis, redis_url: str) -> None:
    client = connections.connect(redis_url)
    limits = dict(client.connection_pool.connection_kwargs)
    client.hset("rq:worker:w", "state", "idle")
    client.sadd("rq:workers", "rq:worker:w")
    with ground.serving(client) as site:
        assert [worker["name"] for worker in site.get("/0/data/workers.json").json()["workers"]] == ["w"]
    assert client.connection_pool.connection_kwargs == limits


def test_a_dead_letter_is_redriven_but_by_no_page_of_another_origin(redis_client: redis.Redis) -> None:
    redriven: list[tuple[str, str]] = []

    def redrive(job_id: str, who: str) -> None:
        if job_id == "gone":
            raise NotFound("dead letter", job_id)
        if job_id == "busy":
            raise Conflict("the job is no dead letter")
        redriven.append((job_id, who))

    with ground.serving(redis_client, redrive=redrive) as site:
        own = {"Origin": str(site.base_url.copy_with(path="")).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
        for foreign in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            own | {"Origin": "http://evil.example"},
            own | {"Sec-Fetch-Site": "cross-site"},
        ):
            assert site.post("/job/j-1/requeue", headers=foreign).status_code == 403, foreign
        assert redriven == []
        assert site.get("/job/j-1/requeue", headers=own).status_code == 403
        assert site.post("/job/j-1/delete", headers=own).status_code == 403
        assert site.post("/requeue/delivery", headers=own).status_code == 403
        assert site.post("/job/j-1/requeue", headers=own).json() == {"status": "OK"}
        assert site.post("/job/j-2/requeue", headers={"Origin": own["Origin"]}).status_code == 200
        assert [site.post(f"/job/{job_id}/requeue", headers=own).status_code for job_id in ("gone", "busy")] == [404, 409]
    assert redriven == [("j-1", "local"), ("j-2", "local")]


@pytest.mark.parametrize("url", [ground.SHOWN_URL, f"unix://user:{ground.SECRET}@/run/redis.sock?password={ground.SECRET}"])
def test_the_url_of_redis_is_shown_without_its_secrets_and_never_connected_to(redis_client: redis.Redis, url: str) -> None:
    job = ground.queue(redis_client).enqueue("math.sqrt", 1)
    with ground.serving(redis_client, url=url) as site:
        pages = [site.get(path) for path in ("/", "/0/view/workers", "/0/view/jobs", f"/0/view/job/{job.id}", "/nothing")]
        assert [page.status_code for page in pages] == [200, 200, 200, 200, 404]
        assert not [page.url for page in pages if ground.SECRET in page.text + str(page.headers)]
        assert "redis.example:6380" in pages[0].text or "/run/redis.sock" in pages[0].text


def test_every_answer_forbids_framing_caching_and_foreign_scripts(site: httpx.Client) -> None:
    for path in (
        "/",
        "/0/view/jobs",
        "/0/data/queues.json",
        "/static/js/jquery-3.5.1.min.js",
        "/favicon.ico",
        "/nothing",
        "/requeue/x",
    ):
        headers = site.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "script-src 'unsafe" not in policy
        assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "no-referrer")
        assert headers["cache-control"] == ("no-cache" if "static" in path or "favicon" in path else "no-store")
    nonces = {site.get("/").headers["content-security-policy"] for _ in range(3)}
    assert len(nonces) == 3


@pytest.fixture
def own_server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.remove()


def test_redis_away_is_a_503_and_the_pages_come_back_with_it(own_server: Server) -> None:
    client = connections.connect(own_server.url)
    with ground.serving(client) as site:
        assert site.get("/").status_code == 200
        own_server.kill()
        pages = {
            path: site.get(path)
            for path in ("/", "/0/view/workers", "/0/view/job/x", "/0/data/queues.json", "/0/data/job/x.json")
        }
        assert {page.status_code for page in pages.values()} == {503}
        assert all(page.headers["retry-after"] and "Traceback" not in page.text for page in pages.values())
        assert pages["/"].headers["content-type"].startswith("text/html")
        assert pages["/0/data/queues.json"].headers["content-type"] == "application/problem+json"
        own_server.start()
        assert site.get("/0/data/queues.json").json() == {"queues": []}


def test_a_redis_that_hangs_holds_up_no_other_request(site: httpx.Client, redis_client: redis.Redis) -> None:
    pid = redis_client.info("server")["process_id"]
    ping = str(site.base_url.copy_with(path="/ping"))
    assert site.get("/0/data/queues.json").status_code == 200
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        os.kill(pid, signal.SIGSTOP)
        try:
            waiting = [threads.submit(site.get, "/0/data/queues.json") for _ in range(8)]
            concurrent.futures.wait(waiting, timeout=0.5)
            assert not any(answer.done() for answer in waiting)
            assert httpx.get(ping, trust_env=False, timeout=5).text == "pong"
        finally:
            os.kill(pid, signal.SIGCONT)
        assert {answer.result(LIMIT_S).status_code for answer in waiting} <= {200, 503}
