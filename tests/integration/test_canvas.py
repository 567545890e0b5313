"""Canvases on a real Redis, their members run by a worker by hand: in any order, twice, killed, failed and redriven."""

import asyncio
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import canvas_trees
import hypothesis
import pytest
import redis
import sample_tasks
from asking import Ask
from canvas_trees import expected
from hands import Hands
from hypothesis import strategies
from killing import Killer
from snapshots import snapshot

from jobs import key_patterns, keys
from jobs.connections import MAX_ASYNC_CONNECTIONS
from jobs.errors import CanvasFailed, CanvasNotFinished, Conflict, InvalidField, NotFound, Permanent
from jobs.queue import canvas_effects, canvas_handle, canvas_store, dead_letters, ending
from jobs.queue.canvas import chain, chord, chunks, group, map
from jobs.queue.canvas_handle import CanvasHandle, launch, launch_async
from jobs.queue.canvas_parts import Part, Signature, signature
from jobs.queue.ending import Claim
from jobs.queue.hooks import Effect, add_effects
from jobs.queue.script import load

NOW = 1_763_764_205.25


def collect(*args: Any) -> Signature:
    return signature(sample_tasks.collect, args)


def need(folder: Path) -> Signature:
    return signature(sample_tasks.need, (str(folder),))


def go(folder: Path) -> None:
    Path(folder, "go").touch()


def redrive(client: redis.Redis, handle: CanvasHandle, job_id: str) -> None:
    """Redrives a dead member, which is told to the canvas twice."""
    dead_letters.redrive(client, job_id)
    tell(client, *canvas_effects.redriven(f"{handle.id}:{job_id.rpartition('-')[2]}", NOW))


def tell(client: redis.Redis, *effects: Effect) -> None:
    with client.pipeline(transaction=True) as pipeline:
        add_effects(pipeline, effects, keys.wip("default"), "")
        pipeline.execute()


def left_keys(client: redis.Redis, canvas_id: str) -> set[str]:
    prefix = keys.canvas(canvas_id)
    return {key.decode().removeprefix(prefix) for key in client.scan_iter(prefix + "*")}


# --- results ---------------------------------------------------------------------------------


@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(tree=canvas_trees.trees(), seed=strategies.integers(0, 1_000))
def test_any_canvas_returns_what_its_tree_says_in_whatever_order_its_jobs_end(
    redis_client: redis.Redis, hands: Hands, tree: Part, seed: int
) -> None:
    redis_client.flushall()
    chance = random.Random(seed)
    handle = launch(redis_client, tree)
    taken: list[Claim] = []
    dead: list[str] = []
    while True:
        while (claim := hands.claim("default")) is not None:
            taken.append(claim)
        if not taken and not dead:
            break
        if not taken or (dead and chance.random() < 0.3):
            assert handle.status() == "failed"
            redrive(redis_client, handle, dead.pop(chance.randrange(len(dead))))
            continue
        claim = taken.pop(chance.randrange(len(taken)))
        if chance.random() < 0.2:
            hands.fail(claim, Permanent("by chance"))
            dead.append(claim.id)
            continue
        result = hands.run(claim)
        assert hands.finish(claim, result) is ending.Written.NOW
        if chance.random() < 0.3:
            assert hands.finish(claim, result) is ending.Written.BEFORE
    view = handle.view()
    assert (view.status, view.done, view.failed) == ("finished", view.total, 0)
    assert handle.result() == expected(tree)
    assert redis_client.zcard(keys.CANVASES_OPEN) == 0
    assert left_keys(redis_client, handle.id) <= {"", ":nodes", ":states", ":results"}
    assert all(redis_client.ttl(key) > 0 for key in redis_client.scan_iter(keys.canvas(handle.id) + "*"))
    assert redis_client.hlen(keys.canvas_results(handle.id)) == 1


def test_a_chain_a_chord_and_chunks_run(redis_client: redis.Redis, hands: Hands) -> None:
    add = sample_tasks.add
    canvas = chain(
        signature(add, (1, 2)),
        chord([signature(add, (10,)), signature(add, (20,))], collect("sum")),
        chunks(sample_tasks.collect, [(1,), (2,), (3,)], 2),
    )
    handle = launch(redis_client, canvas)
    hands.work_off("default")
    below = [[13, 23], "sum"]
    assert handle.result() == [[[below, 1], [below, 2]], [[below, 3]]]


def test_chunks_make_coroutines_calls_too(redis_client: redis.Redis, hands: Hands) -> None:
    handle = launch(redis_client, chunks(sample_tasks.collect_later, [(1,), (2,)], 2))
    hands.work_off("default")
    assert handle.result() == [[[1], [2]]]


def test_members_carry_the_calls_options_and_what_their_canvas_is(redis_client: redis.Redis, hands: Hands) -> None:
    launch(redis_client, group(collect(1).set(queue="other", time_limit_s=7.0, expires_s=60.0)), canvas_id="c1", now=NOW)
    claim = hands.must_claim("other", now=NOW)
    assert claim.id == "c1-1"
    job = snapshot(redis_client)["rq:job:c1-1"]
    assert (job["canvas"], job["timeout"], job["data"]) == ("c1:1", "7", '["sample_tasks.collect",null,[1],{}]')
    assert float(job["expires_at"]) == NOW + 60


def test_launched_twice_a_canvas_starts_once(redis_client: redis.Redis, ask: Ask) -> None:
    launch(redis_client, group(collect(1), collect(2)), canvas_id="c1", now=NOW)
    before = snapshot(redis_client)
    launch(redis_client, group(collect(3), collect(4)), canvas_id="c1", now=NOW + 1)
    ask(partial(launch_async, canvas=collect(5), canvas_id="c1", now=NOW + 2))
    assert snapshot(redis_client) == before
    with pytest.raises(InvalidField):
        launch(redis_client, collect(1), canvas_id="no:colon")


@pytest.mark.parametrize("ttl_s", [0, -1, 1.5])
def test_a_canvas_is_kept_for_whole_seconds_after_its_end(redis_client: redis.Redis, ttl_s: Any) -> None:
    with pytest.raises(InvalidField, match="result_ttl_s"):
        launch(redis_client, collect(1), result_ttl_s=ttl_s)
    assert redis_client.keys("*") == []


def test_a_launch_whose_first_nodes_have_expired_starts_nothing(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canvas_handle, "LAID_TTL_S", 0)  # each portion is gone before the next one comes
    with pytest.raises(TimeoutError, match="c1"):
        launch(redis_client, group(collect(number) for number in range(600)), canvas_id="c1")
    assert redis_client.keys("*") == []


def test_a_launch_that_is_cut_off_leaves_only_what_expires(redis_client: redis.Redis) -> None:
    parts = group(collect(number) for number in range(600))
    with redis_client.pipeline(transaction=False) as pipeline:
        canvas_handle._add_launch(pipeline, parts, "c1", NOW, 60)
        del pipeline.command_stack[2:]
        pipeline.execute()
    [laid] = redis_client.keys("*")
    assert redis_client.ttl(laid) > 0
    handle = launch(redis_client, parts, canvas_id="c1")
    assert handle.status() == "running"
    assert redis_client.ttl(keys.canvas_nodes("c1")) == -1


def test_every_key_of_a_canvas_is_documented_with_its_type(redis_client: redis.Redis, hands: Hands, tmp_path: Path) -> None:
    parts = [collect(1), need(tmp_path), *(collect(2).set(queue="other") for _ in range(600))]
    launch(redis_client, chord(parts, collect("end")), canvas_id="c1")
    redis_client.hset(keys.canvas_laid("c1", "killed"), "0", "")
    hands.work_off("default")
    found = {key.decode(): redis_client.type(key).decode() for key in redis_client.scan_iter("turnstile:canvas*")}
    assert len(found) == 8
    assert {key: key_patterns.of(key)[0].type for key in found} == found


# --- waiting ---------------------------------------------------------------------------------


def test_whoever_waits_is_told(redis_client: redis.Redis, hands: Hands, ask: Ask) -> None:
    handle = launch(redis_client, chain(collect(1), collect(2)))
    with pytest.raises(CanvasNotFinished):
        handle.wait(0.02)
    hands.work("default")
    with pytest.raises(CanvasNotFinished):
        ask(lambda client: CanvasHandle(handle.id, client).wait_async(0.02))
    hands.work("default")
    assert handle.wait(5.0) == [[1], 2]
    assert ask(lambda client: CanvasHandle(handle.id, client).wait_async(5.0)) == [[1], 2]
    with pytest.raises(NotFound):
        CanvasHandle("nobody", redis_client).wait(1.0)


def test_whoever_waits_takes_no_connection_from_others(redis_client: redis.Redis, ask: Ask) -> None:
    handle = launch(redis_client, collect(1))

    async def among_waiters(client: redis.asyncio.Redis) -> float:
        waiting = [CanvasHandle(handle.id, client).wait_async(60.0) for _ in range(3 * MAX_ASYNC_CONNECTIONS)]
        waiters = [asyncio.create_task(one) for one in waiting]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await client.ping()
        took_s = time.monotonic() - began
        for waiter in waiters:
            waiter.cancel()
        return took_s

    assert ask(among_waiters) < 1.0


# --- failure ---------------------------------------------------------------------------------


def test_a_failed_member_fails_the_canvas_and_redriven_it_completes_it(
    redis_client: redis.Redis, hands: Hands, tmp_path: Path
) -> None:
    handle = launch(redis_client, chord([collect(1), need(tmp_path), collect(2)], collect("end")), canvas_id="c1")
    hands.work_off("default")
    view = handle.view()
    assert (view.status, view.total, view.done, view.failed) == ("failed", 4, 2, 1)
    [failure] = view.failures
    assert (failure.job_id, failure.error) == ("c1-4", "dead: Permanent: there is no file `go`")
    with pytest.raises(CanvasFailed):
        handle.wait(1.0)
    assert [view.id for view in canvas_store.open_canvases(redis_client, 10)] == ["c1"]
    go(tmp_path)
    dead_letters.redrive(redis_client, "c1-4")
    assert handle.status() == "running"
    hands.work_off("default")
    assert handle.wait(1.0) == [[[1], [], [2]], "end"]


def test_a_discarded_member_stays_failed_and_can_be_started_anew(redis_client: redis.Redis, hands: Hands, tmp_path: Path) -> None:
    handle = launch(redis_client, chain(collect(1), need(tmp_path).set(queue="other")), canvas_id="c1")
    hands.work_off("default", "other")
    assert not canvas_store.restart(redis_client, "c1", 2, NOW)
    dead_letters.discard(redis_client, "c1-2")
    [failure] = handle.view().failures
    assert failure.error.startswith("discarded: ")
    go(tmp_path)
    assert canvas_store.restart(redis_client, "c1", 2, NOW)
    hands.work_off("other")
    assert handle.result() == [[1]]


def test_endings_called_twice_and_out_of_order_change_nothing_more(redis_client: redis.Redis, hands: Hands) -> None:
    launch(redis_client, group(collect(1), collect(2), chain(collect(3), collect(4))), canvas_id="c1", now=NOW)

    def unchanged(*effects: Effect) -> bool:
        before = snapshot(redis_client)
        tell(redis_client, *effects)
        return before == snapshot(redis_client)

    assert unchanged(*canvas_effects.redriven("c1:1", NOW), *canvas_effects.finished("c1:5", "5", NOW))
    assert unchanged(*canvas_effects.finished("c2:1", "1", NOW), *canvas_effects.finished("", "1", NOW))
    tell(redis_client, *canvas_effects.ended("c1:1", "dead", "no", NOW))
    assert unchanged(*canvas_effects.ended("c1:1", "dead", "no", NOW))
    tell(redis_client, *canvas_effects.redriven("c1:1", NOW))
    assert unchanged(*canvas_effects.redriven("c1:1", NOW))
    tell(redis_client, *canvas_effects.finished("c1:1", "1", NOW), *canvas_effects.finished("c1:2", "2", NOW))
    assert unchanged(
        *canvas_effects.finished("c1:1", "other", NOW),
        *canvas_effects.ended("c1:1", "dead", "late", NOW),
        *canvas_effects.redriven("c1:1", NOW),
    )
    tell(redis_client, *canvas_effects.ended("c1:4", "expired", "late", NOW), *canvas_effects.finished("c1:4", "3", NOW))
    tell(redis_client, *canvas_effects.finished("c1:5", "4", NOW))
    assert CanvasHandle("c1", redis_client).result() == [1, 2, 4]
    assert unchanged(*canvas_effects.finished("c1:5", "5", NOW))


def test_a_hand_over_without_the_lease_writes_nothing(redis_client: redis.Redis, hands: Hands) -> None:
    handle = launch(redis_client, chain(collect(1), collect(2)))
    slow = hands.must_claim("default")
    hands.reclaim("default")
    assert hands.finish(slow, ["slow"]) is ending.Written.LEASE_LOST
    assert handle.view().done == 0
    hands.work_off("default")
    assert handle.result() == [[1], 2]


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_round_trip_a_canvas_completes(
    redis_client: redis.Redis, hands: Hands, killer: Killer, after: bool
) -> None:
    for round_trip in range(20):
        redis_client.flushall()
        handle = launch(redis_client, chord(map(sample_tasks.collect, [1, 2]), collect("end")))
        with killer.at(round_trip, after=after):
            hands.work_off("default")
        hands.reclaim("default")
        hands.work_off("default")
        assert handle.result() == [[[1], [2]], "end"]
        if not killer.struck:
            return
    raise AssertionError("the work has more round trips than were killed")


def test_a_member_that_comes_too_late_fails_its_canvas(redis_client: redis.Redis, hands: Hands) -> None:
    handle = launch(redis_client, group(collect(1).set(expires_s=1.0), collect(2)))
    late = hands.must_claim("default")
    assert ending.expire(redis_client, late, time.time()) is ending.Written.NOW
    hands.work_off("default")
    view = handle.view()
    assert (view.status, view.done, view.failures[0].error.startswith("expired: ")) == ("failed", 1, True)


def test_a_job_id_that_is_taken_fails_its_member_visibly(redis_client: redis.Redis, hands: Hands) -> None:
    redis_client.hset(keys.job("c1-1"), "status", "finished")
    handle = launch(redis_client, group(collect(1), collect(2)), canvas_id="c1")
    hands.work_off("default")
    view = handle.view()
    assert (view.status, view.done, "was there before" in view.failures[0].error) == ("failed", 1, True)


# --- cancelling and healing ------------------------------------------------------------------


def test_a_cancelled_canvas_starts_nothing_more(redis_client: redis.Redis, hands: Hands) -> None:
    handle = launch(redis_client, group(chain(collect(1), collect(2)), collect(3)), canvas_id="c1")
    running = hands.must_claim("default")
    handle.cancel()
    handle.cancel()
    assert redis_client.llen(keys.queue("default")) == 0
    assert hands.finish(running, hands.run(running)) is ending.Written.NOW
    assert redis_client.llen(keys.queue("default")) == 0
    assert handle.status() == "cancelled"
    with pytest.raises(CanvasFailed, match="cancelled"):
        handle.wait(1.0)
    assert redis_client.zcard(keys.CANVASES_OPEN) == 0
    assert all(redis_client.ttl(key) > 0 for key in redis_client.scan_iter(keys.canvas("c1") + "*"))


def test_a_member_that_dies_after_the_cancel_leaves_nothing_for_ever(
    redis_client: redis.Redis, hands: Hands, tmp_path: Path
) -> None:
    handle = launch(redis_client, need(tmp_path), canvas_id="c1")
    running = hands.must_claim("default")
    handle.cancel()
    hands.fail(running, ValueError("late"))
    assert handle.view().failed == 1
    for _ in range(2):
        assert all(redis_client.ttl(key) > 0 for key in redis_client.scan_iter(keys.canvas("c1") + "*"))
        if redis_client.exists(keys.job("c1-0")):
            dead_letters.discard(redis_client, "c1-0")
    with pytest.raises(NotFound):
        canvas_store.cancel(redis_client, "nobody", NOW)


def test_a_finished_canvas_cannot_be_cancelled(redis_client: redis.Redis, hands: Hands) -> None:
    handle = launch(redis_client, collect(1))
    hands.work_off("default")
    with pytest.raises(Conflict):
        handle.cancel()


def test_a_member_whose_job_is_lost_is_found_and_started_anew(redis_client: redis.Redis, hands: Hands) -> None:
    handle = launch(redis_client, chain(collect(1), group(collect(2), collect(3))), canvas_id="c1")
    hands.work("default")
    redis_client.delete(keys.job("c1-3"), keys.job("c1-4"), keys.queue("default"))
    for node in (3, 4):
        assert canvas_store.restart(redis_client, "c1", node, time.time())
        assert not canvas_store.restart(redis_client, "c1", node, time.time())
    hands.work_off("default")
    assert handle.result() == [[[1], 2], [[1], 3]]


# --- size ------------------------------------------------------------------------------------


def test_a_large_canvas_has_few_jobs_outstanding_and_is_paged(redis_client: redis.Redis, hands: Hands) -> None:
    n = 1_200
    handle = launch(redis_client, chord((collect(number) for number in range(n)), collect("end")), canvas_id="c1")
    most = 0
    while hands.work("default"):
        most = max(most, redis_client.llen(keys.queue("default")))
    assert 100 < most <= 500
    assert handle.result() == [[[number] for number in range(n)], "end"]
    page = handle.tree(1, limit=100)
    assert (page.node.kind, page.node.children, len(page.children), page.next_cursor) == ("group", n, 100, "103")
    assert [child.job_id for child in handle.tree(1, page.next_cursor, 2).children] == ["c1-103", "c1-104"]
    assert handle.tree(1, str(3 + n)).children == []


def test_a_chord_of_ten_thousand_completes_out_of_order_in_bounded_steps(redis_client: redis.Redis, hands: Hands) -> None:
    n, first, chance = 10_000, 3, random.Random(1)
    handle = launch(redis_client, chord((collect() for _ in range(n)), collect("end")), canvas_id="c1", now=NOW)
    done: set[int] = set()
    load(redis_client, canvas_effects.TOLD)
    while len(done) < n:
        outstanding = int(redis_client.hget(keys.canvas("c1"), "outstanding"))
        assert outstanding <= 500
        started = range(first, first + min(len(done) + outstanding, n))
        ending_now = chance.sample(sorted(set(started) - done), min(40, len(started) - len(done)))
        with redis_client.pipeline(transaction=False) as pipeline:
            for node in ending_now:
                [effect] = canvas_effects.finished(f"c1:{node}", str(node), NOW)
                effect.script.in_pipeline(pipeline, [*effect.keys, keys.wip("default")], [*effect.args, ""])
            assert all(pipeline.execute())
        done.update(ending_now)
    redis_client.delete(keys.queue("default"))
    redis_client.rpush(keys.queue("default"), "c1-2")
    hands.work_off("default")
    assert handle.result() == [list(range(first, first + n)), "end"]


def test_the_tree_shows_each_nodes_state(redis_client: redis.Redis, hands: Hands, tmp_path: Path) -> None:
    handle = launch(redis_client, chain(group(collect(1), need(tmp_path), collect(3)), collect(4)), canvas_id="c1")
    hands.work("default")
    hands.work("default")
    page = handle.tree()
    assert [(node.kind, node.state) for node in (page.node, *page.children)] == [
        ("chain", "started"), ("group", "started"), ("job", "waiting"),
    ]  # fmt: skip
    shown = [(node.task, node.state, node.error) for node in handle.tree(1).children]
    assert shown == [
        ("sample.collect", "done", None),
        ("sample.need", "failed", "dead: Permanent: there is no file `go`"),
        ("sample.collect", "started", None),
    ]
    with pytest.raises(NotFound):
        handle.tree(99)
    with pytest.raises(InvalidField):
        handle.tree(0, "x")
