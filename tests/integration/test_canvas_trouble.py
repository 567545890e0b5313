"""Members of a canvas that others take away: cancelled, purged, deleted, failed by RQ alone. The canvas says so, or goes on."""

import time

import pytest
import redis
import sample_tasks
from hands import Hands

from jobs import keys
from jobs.errors import CanvasFailed
from jobs.queue import canvas_store, dead_letters, ending, job_store, overview
from jobs.queue.canvas import chord, group
from jobs.queue.canvas_handle import CanvasHandle, launch

NOW = 1_763_764_205.25


def two(client: redis.Redis) -> CanvasHandle:
    return launch(client, chord([sample_tasks.collect.s(1), sample_tasks.collect.s(2)], sample_tasks.collect.s(3)), now=NOW)


def waiting(client: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue("default"), 0, -1)]


def test_a_cancelled_member_fails_its_canvas_and_the_callback_never_runs(redis_client: redis.Redis, hands: Hands) -> None:
    handle = two(redis_client)
    job_store.cancel(redis_client, waiting(redis_client)[0], NOW)
    hands.work_off("default")
    view = canvas_store.get(redis_client, handle.id)
    assert (view.status, view.done, view.failed) == ("failed", 1, 1)
    with pytest.raises(CanvasFailed, match="is failed"):
        handle.result()
    assert waiting(redis_client) == []


def test_a_purge_keeps_the_members_of_a_canvas(redis_client: redis.Redis, hands: Hands) -> None:
    handle = two(redis_client)
    assert overview.purge(redis_client, "default") == (0, 2)
    hands.work_off("default")
    assert handle.result() == [[[1], [2]], 3]


def test_a_member_that_rq_failed_alone_fails_its_canvas_once_it_is_adopted(redis_client: redis.Redis, hands: Hands) -> None:
    handle = two(redis_client)
    claim = hands.must_claim("default")
    redis_client.zrem(keys.wip("default"), claim.member)
    redis_client.hset(keys.job(claim.id), "status", "failed")
    redis_client.zadd(keys.failed("default"), {claim.id: NOW})
    assert dead_letters.adopt(redis_client, "default", claim.id, NOW)
    assert not dead_letters.adopt(redis_client, "default", claim.id, NOW)
    assert canvas_store.get(redis_client, handle.id).status == "failed"
    dead_letters.redrive(redis_client, claim.id)
    hands.work_off("default")
    assert handle.result() == [[[1], [2]], 3]


def test_members_whose_jobs_vanished_are_made_anew_once_the_canvas_stands_still(redis_client: redis.Redis, hands: Hands) -> None:
    handle = two(redis_client)
    for job_id in waiting(redis_client):
        redis_client.delete(keys.job(job_id))
    redis_client.delete(keys.queue("default"))
    assert canvas_store.reconcile(redis_client, now=NOW + 9, after_s=10) == []
    assert len(canvas_store.reconcile(redis_client, now=NOW + 11, after_s=10)) == 2
    assert canvas_store.reconcile(redis_client, now=NOW + 22, after_s=10) == []
    hands.work_off("default")
    assert handle.result() == [[[1], [2]], 3]


def test_a_canvas_that_goes_on_is_left_alone(redis_client: redis.Redis, hands: Hands) -> None:
    launch(redis_client, group(sample_tasks.collect.s(1), sample_tasks.collect.s(2)), now=NOW)
    assert canvas_store.reconcile(redis_client, now=NOW + 3600, after_s=10) == []
    hands.work_off("default")
    assert redis_client.zcard(keys.CANVASES_OPEN) == 0


def test_the_first_pass_finds_a_lost_member_however_many_canvases_stand_still(redis_client: redis.Redis, hands: Hands) -> None:
    for _ in range(canvas_store.PAGE + 5):
        launch(redis_client, sample_tasks.refuse.s("no"), now=NOW)
    hands.work_off("default")
    launch(redis_client, sample_tasks.collect.s(1), canvas_id="c1", now=NOW + 1)
    redis_client.delete(keys.job("c1-0"), keys.queue("default"))
    said = ["canvas c1: the job c1-0 was lost and is made anew"]
    assert canvas_store.reconcile(redis_client, now=time.time() + 9, after_s=1) == said
    assert canvas_store.reconcile(redis_client, now=time.time() + 9, after_s=1) == []


def test_members_of_more_than_a_page_of_canvases_are_made_anew_in_one_pass(redis_client: redis.Redis, hands: Hands) -> None:
    number = 2 * canvas_store.PAGE + 3
    for _ in range(number):
        launch(redis_client, group(sample_tasks.collect.s(1), sample_tasks.collect.s(2)), now=NOW)
    for job_id in waiting(redis_client):
        redis_client.delete(keys.job(job_id))
    redis_client.delete(keys.queue("default"))
    assert len(canvas_store.reconcile(redis_client, now=NOW + 11, after_s=10)) == 2 * number
    hands.work_off("default")
    assert redis_client.zcard(keys.CANVASES_OPEN) == 0


def test_a_pass_restarts_a_bounded_number_and_the_next_one_goes_on(
    redis_client: redis.Redis, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canvas_store, "PAGE", 2)
    monkeypatch.setattr(canvas_store, "RESTARTED", 3)
    for _ in range(5):
        launch(redis_client, sample_tasks.collect.s(1), now=NOW)
    for job_id in waiting(redis_client):
        redis_client.delete(keys.job(job_id))
    redis_client.delete(keys.queue("default"))
    assert [len(canvas_store.reconcile(redis_client, now=NOW + 11, after_s=10)) for _ in range(3)] == [3, 2, 0]


def test_a_canvas_goes_on_and_is_cancelled_while_redis_is_full(redis_client: redis.Redis, hands: Hands) -> None:
    handle = two(redis_client)
    claims = [hands.must_claim("default"), hands.must_claim("default")]
    redis_client.config_set("maxmemory", 1)
    try:
        for claim in claims:
            assert hands.finish(claim, hands.run(claim)) is ending.Written.NOW
        assert (len(waiting(redis_client)), handle.view().done) == (1, 2)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            two(redis_client)
        handle.cancel()
        assert (waiting(redis_client), handle.status()) == ([], "cancelled")
    finally:
        redis_client.config_set("maxmemory", 0)
    assert redis_client.keys("turnstile:canvas:*:laid:*") == []
