"""What holds for every operation of the API: its document is true, no GET writes, every action is in the audit trail."""

import asyncio
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import enrolled
import httpx
import pytest
import redis
import sample_tasks
from hands import Hands
from letters import bury_many
from mall_floor import Floor
from snapshots import changes, snapshot
from web_site import serving

from jobs import connections, keys
from jobs.mall import periodic
from jobs.queue import audit, dead_letters, redrives
from jobs.queue.calling import enqueue
from jobs.setting_values import ApiKey, hash_api_key
from jobs.settings import Settings
from scheduler.periodic import Registration
from web import live
from web.app import OPERATIONS
from web.live import Live
from web.openapi import document

KEY = "a-key-of-24-characters-x"
DOCUMENT = document(OPERATIONS)


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(Settings(redis_url=settings.redis_url, api_keys=(ApiKey("ann", hash_api_key(KEY)),))) as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


def trail(client: redis.Redis) -> list[tuple[str, str, str]]:
    return [(entry.what, entry.who, entry.target) for entry in audit.page(client, cursor=None, limit=99)[0]]


def ask_for(site: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response:
    """One request, whose status and media type the document must know."""
    answer = site.request(method, path, **options)
    for template, operations in DOCUMENT["paths"].items():
        if method.lower() in operations and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path.partition("?")[0]):
            documented = operations[method.lower()]["responses"]
            assert str(answer.status_code) in documented, f"{method} {path}: {answer.status_code} {answer.text}"
            said = documented[str(answer.status_code)]
            said = DOCUMENT["components"]["responses"][said["$ref"].rpartition("/")[2]] if "$ref" in said else said
            content = said.get("content", {})
            kind = answer.headers.get("content-type", "").partition(";")[0]
            assert kind in content or not answer.content, f"{method} {path}: {kind}"
            return answer
    raise AssertionError(f"{method} {path} is not documented")


def test_every_operation_has_a_summary_a_name_of_its_own_and_says_what_it_may_answer() -> None:
    found = [operation for path in DOCUMENT["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in found]
    assert sorted(set(names)) == sorted(names) and len(names) == len(OPERATIONS)
    for operation in found:
        assert operation["summary"] and {"401", "403", "500", "503"} <= operation["responses"].keys()
    redrive_one = DOCUMENT["paths"]["/v1/dead-letters/{id}/redrive"]["post"]
    redrive_all = DOCUMENT["paths"]["/v1/dead-letters/redrive"]["post"]
    assert [one["requestBody"]["required"] for one in (redrive_one, redrive_all)] == [False, True]


def test_a_link_leads_from_what_was_created_to_operations_that_take_its_id() -> None:
    operations = {one["operationId"]: (path, one) for path, found in DOCUMENT["paths"].items() for one in found.values()}
    linked = [
        (path, link)
        for path, one in operations.values()
        for answer in one["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert sorted((path, operations[link["operationId"]][0]) for path, link in linked) == [
        ("/v1/jobs", "/v1/jobs/{id}"),
        ("/v1/jobs", "/v1/jobs/{id}"),
        ("/v1/jobs", "/v1/jobs/{id}/events"),
        ("/v1/orders", "/v1/orders/{id}"),
        ("/v1/orders", "/v1/orders/{id}/cancel"),
        ("/v1/orders", "/v1/orders/{id}/events"),
    ]
    for _path, link in linked:
        named = {parameter if isinstance(parameter, str) else parameter.get("name") for parameter in link["parameters"]}
        assert named == {"id"}


def test_what_is_asked_wrongly_or_for_nothing_is_answered_as_the_document_says(site: httpx.Client) -> None:
    for operation in OPERATIONS:
        path = re.sub(r"\{\w+\}", "none", operation.path)
        if operation.method == "GET":
            ask_for(site, "GET", f"{path}?cursor=x&limit=0&bucket=x&status=x")
            ask_for(site, "GET", path)
            continue
        for body in (b"", b"{", b'{"nonsense": 1}', b"x" * (Settings().max_body_bytes + 1)):
            if operation.path not in ("/v1/orders",) or body:
                ask_for(site, operation.method, path, content=body, headers={"Idempotency-Key": "k"})
        site.headers["Sec-Fetch-Site"] = "cross-site"
        assert ask_for(site, operation.method, path).status_code == 403
        del site.headers["Sec-Fetch-Site"]
    del site.headers["Authorization"]
    assert {ask_for(site, "GET", path).status_code for path in ("/v1/queues", "/metrics")} == {401}


def test_no_get_changes_anything(
    site: httpx.Client, redis_client: redis.Redis, hands: Hands, floor: Floor, settings: Settings
) -> None:
    order_id = floor.order(("A", 1))
    hands.work_off("picking", "packing")
    bury_many(redis_client, ["dead"], time.time())
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="j1"), now=time.time())
    Registration(redis_client, periodic.table(settings)).tick(time.time())
    asked = redrives.request(redis_client, "redrive", by="test", rate_per_s=0.001)
    name = periodic.table(settings)[0].name
    ids = {
        "/v1/schedules": name,
        "/v1/orders": order_id,
        "/v1/dead-letters": "dead",
        "/v1/redrives": asked.id,
        "/v1/jobs": "j1",
        "/v1/stock": "A",
    }
    before = snapshot(redis_client)
    paths = [operation.path for operation in OPERATIONS if operation.method == "GET" and not operation.path.endswith("/events")]
    for path in (*paths, "/", "/?fragment=1", "/actions/discard?target=dead", "/docs", "/openapi.json", "/rq/"):
        start = next((start for start in ids if path.startswith(f"{start}/")), "")
        site.get(re.sub(r"\{\w+\}", ids.get(start, "none"), path), headers={"Accept": "text/html"})
    assert changes(before, snapshot(redis_client)) == {}


def test_every_action_leaves_one_entry_that_says_who_did_what_to_what(
    site: httpx.Client, redis_client: redis.Redis, hands: Hands, floor: Floor, settings: Settings
) -> None:
    now = time.time()
    order_id = floor.order(("A", 1))
    bury_many(redis_client, [f"d{number}" for number in range(5)], now)
    group = dead_letters.get(redis_client, "d0").group
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="j1"), now=now)
    Registration(redis_client, periodic.table(settings)).tick(now)
    [name, *_] = [one.name for one in periodic.table(settings)]
    origin = str(site.base_url).rstrip("/")
    done: list[tuple[str, str]] = []

    def act(method: str, path: str, what: str, target: str, **options: Any) -> httpx.Response:
        answer = site.request(method, path, **options)
        assert answer.is_success, answer.text
        done.append((what, target))
        assert trail(redis_client) == [(deed, "ann", whom) for deed, whom in reversed(done)]
        return answer

    act("POST", f"/v1/orders/{order_id}/cancel", "cancel order", order_id)
    act("PUT", "/v1/stock/B", "set stock to 7", "B", json={"on_hand": 7})
    act("DELETE", "/v1/jobs/j1", "cancel job", "j1")
    for action in ("pause", "resume", "purge"):
        act("POST", f"/v1/queues/default/{action}", f"{action} queue", "default")
    for action in ("run", "pause", "resume"):
        act("POST", f"/v1/schedules/{name}/{action}", f"{action} schedule", name)
    for job_id in ("w1", "w2"):
        enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id=job_id), now=now, due_at=now + 3_600)
    at = datetime.fromtimestamp(int(now) + 7_200, UTC)
    act("POST", "/v1/scheduled/w1/reschedule", f"reschedule job to {at:%Y-%m-%dT%H:%M:%SZ}", "w1", json={"at": at.isoformat()})
    act("POST", "/v1/scheduled/w1/run", "run job", "w1")
    act("POST", "/v1/scheduled/w2/cancel", "cancel job", "w2")
    act("POST", "/v1/dead-letters/d0/redrive", "redrive", "d0")
    act("POST", "/v1/dead-letters/d1/discard", "discard", "d1")
    act("POST", "/rq/job/d2/requeue", "redrive", "d2", headers={"Origin": origin, "Sec-Fetch-Site": "same-origin"})
    enrolled.beat(redis_client, "w1", "packing")
    act("POST", "/v1/workers/packing/scale", "scale pool to 1..2", "packing", json={"min": 1, "max": 2})
    act("DELETE", "/v1/workers/packing/scale", "scale pool to its default", "packing")
    for action in ("restart", "stop"):
        act("POST", f"/v1/workers/w1/{action}", f"{action} worker", "w1")
    asked = act("POST", "/v1/dead-letters/redrive", "redrive group", group, json={"group": group}).json()["id"]
    act("POST", f"/v1/redrives/{asked}/cancel", "cancel redrive", asked)
    act("POST", "/v1/dead-letters/discard", "discard group", group, json={"group": group})
    for path in (
        "dead-letters/d0/redrive",
        "dead-letters/d1/discard",
        f"redrives/{asked}/cancel",
        "queues/no/pause",
        "scheduled/w1/run",
    ):
        assert site.post(f"/v1/{path}").status_code in (404, 409)
    assert len(trail(redis_client)) == len(done), "what was not done is not in the trail"


def test_an_event_between_two_questions_wakes_its_watcher(
    redis_client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def follow(number: int) -> None:
        client = connections.connect_async(redis_url)
        ask = client.xread

        async def ask_and_pause(*args: Any, **options: Any) -> Any:
            found = await ask(*args, **options)
            await asyncio.sleep(0.2)
            return found

        client.xread = ask_and_pause
        followed = Live(client)
        follower = asyncio.create_task(followed.run())
        with followed.watch(f"o{number}") as changed:
            await asyncio.sleep(0.15 + number / 20)
            changed.clear()
            redis_client.xadd(keys.EVENTS, {"order": f"o{number}"})
            await asyncio.wait_for(changed.wait(), 5)
        followed.close()
        await asyncio.wait_for(follower, 5)
        await client.aclose()

    monkeypatch.setattr(live, "BLOCK_MS", 100)
    for number in range(8):
        asyncio.run(follow(number))
