"""/v1/canvas: what operators see of a canvas, and how they end one."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
import sample_tasks
from hands import Hands
from web_site import serving

from jobs.queue import canvas_store
from jobs.queue.canvas import chord, group
from jobs.queue.canvas_handle import launch
from jobs.queue.canvas_parts import signature
from jobs.settings import Settings


@pytest.fixture
def site(redis_client: redis.Redis, settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def test_a_canvas_is_followed_from_its_launch_to_its_result(
    site: httpx.Client, redis_client: redis.Redis, hands: Hands, tmp_path: Path
) -> None:
    need = signature(sample_tasks.need, (str(tmp_path),))
    launch(redis_client, chord([signature(sample_tasks.collect, (1,)), need], signature(sample_tasks.collect)), canvas_id="c1")
    shown = site.get("/v1/canvas/c1").json()
    assert (shown["status"], shown["total"], shown["done"]) == ("running", 3, 0)
    assert [canvas["id"] for canvas in site.get("/v1/canvas").json()["canvases"]] == ["c1"]
    hands.work_off("default")
    shown = site.get("/v1/canvas/c1").json()
    assert (shown["status"], shown["failures"][0]["job_id"]) == ("failed", "c1-4")
    page = site.get("/v1/canvas/c1/tree", params={"node": 1, "limit": 1}).json()
    assert (page["node"]["kind"], page["children"][0]["state"]) == ("group", "done")
    rest = site.get("/v1/canvas/c1/tree", params={"node": 1, "cursor": page["next_cursor"]}).json()
    assert [child["state"] for child in rest["children"]] == ["failed"]
    (tmp_path / "go").touch()
    assert canvas_store.restart(redis_client, "c1", 4, 0.0) is False
    redis_client.delete("rq:job:c1-4")
    assert canvas_store.restart(redis_client, "c1", 4, 0.0)
    hands.work_off("default")
    assert site.get("/v1/canvas/c1").json()["result"] == [[[1], []]]


def test_a_canvas_is_cancelled_once(site: httpx.Client, redis_client: redis.Redis, hands: Hands) -> None:
    launch(redis_client, group(signature(sample_tasks.collect, (n,)) for n in range(3)), canvas_id="c1")
    for _ in range(2):
        assert site.post("/v1/canvas/c1/cancel").json() == {"target": "c1", "action": "cancel"}
    assert site.get("/v1/canvas/c1").json()["status"] == "cancelled"
    assert hands.work_off("default") == 0
    launch(redis_client, signature(sample_tasks.collect), canvas_id="c2")
    hands.work_off("default")
    assert site.post("/v1/canvas/c2/cancel").status_code == 409


def test_what_is_not_there_or_no_number_is_refused(site: httpx.Client, redis_client: redis.Redis) -> None:
    launch(redis_client, signature(sample_tasks.collect), canvas_id="c1")
    assert [site.get(path).status_code for path in ("/v1/canvas/no", "/v1/canvas/no/tree", "/v1/canvas/c1/tree?node=7")] == [
        404
    ] * 3
    assert [site.get(f"/v1/canvas/c1/tree?{query}").status_code for query in ("node=x", "cursor=9", "limit=0", "odd=1")] == [
        422
    ] * 4
    assert site.post("/v1/canvas/no/cancel").status_code == 404
    for other_key in ("c1:nodes", "c1:states", "c1:results"):
        shown = [site.get(f"/v1/canvas/{other_key}"), site.get(f"/v1/canvas/{other_key}/tree")]
        assert [answer.status_code for answer in (*shown, site.post(f"/v1/canvas/{other_key}/cancel"))] == [404] * 3
