"""The engine of a worker: how many jobs it claims, what it hands back, when it ends, and that it rests with nothing to do."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import sample_tasks
from command_counts import commands_of
from cutting import Cutting
from engines import Running, finished, retried
from rq.worker import DequeueStrategy
from servers import Server
from snapshots import snapshot

from jobs import connections, keys
from jobs.queue import overview
from jobs.queue.calling import enqueue
from jobs.queue.claiming import CLAIM
from jobs.queue.ending import Claim
from jobs.queue.limits import publish
from jobs.queue.outcome import Outcome
from jobs.queue.script import load
from jobs.queue.surroundings import Bounds
from jobs.queue.worker import _order

Start = Callable[..., Running]


@pytest.fixture
def start(redis_client: redis.Redis, redis_url: str) -> Iterator[Start]:
    """Starts an engine; those that are left are stopped."""
    started: list[Running] = []

    def begin(*args: Any, url: str = redis_url, **options: Any) -> Running:  # those of Running
        running = Running(url, *args, **options)
        started.append(running)
        return running

    yield begin
    for running in started:
        running.stop()


def send(client: redis.Redis, *ids: str, queue: str = "default") -> None:
    for job_id in ids:
        enqueue(client, sample_tasks.add.spec(1, 2, job_id=job_id, queue=queue), now=time.time())


def numbered(n: int, prefix: str = "j") -> list[str]:
    return [f"{prefix}{number:03}" for number in range(n)]


def status(client: redis.Redis, job_id: str) -> str:
    return (client.hget(keys.job(job_id), "status") or b"gone").decode()


def holds(*held: str) -> Callable[[Claim], Outcome | None]:
    """Jobs whose names begin so are not ended."""
    return lambda claim: None if claim.id.startswith(held) else finished(claim)


# --- as far as the bounds go ---------------------------------------------------------------------


def test_a_burst_runs_what_its_own_jobs_put_on_the_queue(redis_client: redis.Redis, start: Start) -> None:
    send(redis_client, "j1")
    engine = start(lambda claim: retried(claim) if claim.attempt < 3 else finished(claim), size=10, bounds=Bounds(burst=True))
    engine.ended()
    assert (status(redis_client, "j1"), engine.executor.order) == ("finished", ["j1"] * 3)


def test_a_burst_outlives_a_redis_that_does_not_answer(
    redis_client: redis.Redis, redis_url: str, start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    load(redis_client, CLAIM)
    send(redis_client, *numbered(3))
    front = Cutting(tmp_path_factory.mktemp("f"), redis_url)
    front.cut(CLAIM.sha.encode())
    engine = start(finished, url=front.url, size=10, bounds=Bounds(burst=True))
    assert engine.ended() == 3
    assert (front.cuts, engine.executor.order) == (1, numbered(3))


def test_a_burst_takes_again_what_it_has_handed_back(redis_client: redis.Redis, start: Start) -> None:
    quick, rest = numbered(400), ["long", *numbered(5, "rest")]
    send(redis_client, *quick, *rest)
    engine = start(holds("long"), bounds=Bounds(burst=True))
    engine.until(lambda: snapshot(redis_client).get("rq:queue:default") == rest[1:], "what cannot begin is back")
    [held] = engine.executor.running.values()
    engine.executor.end(held, finished())
    engine.ended()
    assert engine.executor.order == quick + rest


@pytest.mark.parametrize("size", [1, 10])
def test_a_number_of_jobs_is_kept_exactly_even_when_some_are_handed_back(
    redis_client: redis.Redis, start: Start, size: int
) -> None:
    send(redis_client, *numbered(400), "long", *numbered(20, "rest"))
    engine = start(holds("long"), size=size, bounds=Bounds(max_jobs=405))
    engine.until(lambda: engine.executor.running, "the long job runs")
    engine.until(lambda: size > 1 or redis_client.llen(keys.queue("default")) == 20, "what cannot begin is back")
    for held in list(engine.executor.running.values()):
        engine.executor.end(held, finished())
    assert engine.ended() == 405
    assert (len(engine.executor.order), redis_client.llen(keys.queue("default"))) == (405, 16)


def test_an_idle_engine_ends_after_the_time_that_it_was_given(redis_client: redis.Redis, start: Start) -> None:
    send(redis_client, "j1")
    assert start(finished, bounds=Bounds(max_idle_s=0.3)).ended() == 1


# --- fairness --------------------------------------------------------------------------------------


def test_jobs_that_cannot_begin_are_there_for_others_in_their_order(redis_client: redis.Redis, start: Start) -> None:
    quick, rest = numbered(400), numbered(30, "rest")
    send(redis_client, *quick, "long", *rest)
    busy = start(holds("long"))
    busy.until(lambda: busy.executor.running and not busy.executor.waiting, "nothing waits behind the long job")
    busy.until(lambda: snapshot(redis_client).get("rq:queue:default") == rest, "all is back, in its order")
    free = start(finished, bounds=Bounds(burst=True))
    free.ended()
    assert free.executor.order == rest
    assert busy.executor.order == [*quick, "long"]
    assert [status(redis_client, job_id) for job_id in ("long", *rest)] == ["started"] + ["finished"] * 30


def test_queues_in_turn_are_served_in_turn(redis_client: redis.Redis, start: Start) -> None:
    send(redis_client, *numbered(20, "a"), queue="a")
    send(redis_client, *numbered(20, "b"), queue="b")
    engine = start(finished, "a", "b", bounds=Bounds(burst=True), order=_order(DequeueStrategy.ROUND_ROBIN))
    engine.ended()
    first_half = [job_id[0] for job_id in engine.executor.order[:20]]
    assert 4 <= first_half.count("a") <= 16
    assert sorted(engine.executor.order) == numbered(20, "a") + numbered(20, "b")


# --- draining --------------------------------------------------------------------------------------


def test_a_drain_hands_everything_back_in_its_order_and_burns_no_attempt(redis_client: redis.Redis, start: Start) -> None:
    ids = numbered(80)
    send(redis_client, *ids)
    engine = start(lambda _claim: None, size=60)
    engine.until(lambda: len(engine.executor.running) == 60, "all places are taken")
    engine.drain.force()
    engine.ended()
    assert snapshot(redis_client)["rq:queue:default"] == ids
    assert not redis_client.exists(keys.wip("default"))
    jobs = [redis_client.hgetall(keys.job(job_id)) for job_id in ids]
    assert [job for job in jobs if job.keys() & {b"failures", b"crashes", b"attempts"}] == []


def test_a_drain_right_at_the_start_leaves_nothing_claimed(redis_client: redis.Redis, redis_url: str) -> None:
    send(redis_client, "j1")
    engine = Running(redis_url, finished, drain_s=0.0)
    engine.drain.begin()
    engine.ended(5.0)
    assert status(redis_client, "j1") in ("queued", "finished")
    assert not redis_client.exists(keys.wip("default"))


# --- rest ------------------------------------------------------------------------------------------


def ticks_of_two_beats(client: redis.Redis, engine: Running) -> int:
    """How often the engine woke between two heartbeats that follow on each other."""

    def beat() -> object:
        return client.hget("rq:worker:w1", "last_heartbeat")

    def after(last: object) -> object:
        engine.until(lambda: beat() != last, "a heartbeat")
        return beat()

    begins = after(beat())
    first = engine.executor.ticks
    after(begins)
    return engine.executor.ticks - first


MAX_TICKS = 40


def test_an_idle_engine_looks_five_times_a_second_and_costs_few_commands(redis_client: redis.Redis, start: Start) -> None:
    engine = start()
    engine.until(lambda: redis_client.exists("rq:worker:w1"), "it has enrolled")
    ticks_of_two_beats(redis_client, engine)
    redis_client.config_resetstat()
    assert ticks_of_two_beats(redis_client, engine) <= 15
    assert commands_of(redis_client)["evalsha"] <= 20


@pytest.mark.parametrize("why", ["paused", "suspended", "limited", "full"])
def test_an_engine_that_may_not_work_rests(redis_client: redis.Redis, start: Start, why: str) -> None:
    if why == "paused":
        overview.pause(redis_client, "default")
    elif why == "suspended":
        redis_client.set(keys.SUSPENDED, 1)
    publish(redis_client, [sample_tasks.few])
    engine = start(lambda _claim: None, size=3)
    for number in range(20):
        task = sample_tasks.few.spec("", 0.0, job_id=f"f{number}") if why == "limited" else None
        enqueue(redis_client, task or sample_tasks.add.spec(1, 2, job_id=f"j{number}"), now=time.time())
    engine.until(lambda: redis_client.exists("rq:worker:w1"), "it has enrolled")
    if why in ("limited", "full"):
        engine.until(lambda: len(engine.executor.running) == 3, "as many run as may")
    assert ticks_of_two_beats(redis_client, engine) <= MAX_TICKS
    assert len(engine.executor.running) == (3 if why in ("limited", "full") else 0)


def test_an_engine_without_redis_rests_and_loses_nothing(own_server: Server, start: Start) -> None:
    client = connections.connect(own_server.url)
    send(client, "held", "j1")
    engine = start(lambda _claim: None, url=own_server.url, size=5)
    engine.until(lambda: len(engine.executor.running) == 2, "both run")
    own_server.kill()
    held, other = engine.executor.running.values()
    engine.executor.end(held, finished())
    first, began = engine.executor.ticks, time.monotonic()
    engine.until(lambda: time.monotonic() > began + 2.0, "a while")
    assert engine.executor.ticks - first <= 2 * MAX_TICKS
    own_server.start()
    engine.until(lambda: status(client, "held") == "finished", "the end is written")
    engine.executor.end(other, finished())
    engine.until(lambda: status(client, "j1") == "finished", "the other one too")
    send(client, "j2")
    engine.until(lambda: engine.executor.order == ["held", "j1", "j2"], "it goes on")
    assert client.hget(keys.totals("default"), "finished") == b"2"


def test_a_redis_that_pauses_its_clients_loses_no_job_and_runs_none_twice(own_server: Server, start: Start) -> None:
    client = connections.connect(own_server.url)
    ids = numbered(300)
    send(client, *ids)
    engine = start(finished, url=own_server.url, size=3)
    engine.until(lambda: len(engine.executor.order) > 20, "it works")
    client.execute_command("CLIENT", "PAUSE", 2_500, "ALL")
    engine.until(lambda: len(engine.executor.order) >= 300, "all have run")
    engine.until(lambda: client.hget(keys.totals("default"), "finished") == b"300", "all are written")
    assert not client.exists(keys.wip("default"), keys.queue("default"))
    assert sorted(engine.executor.order) == ids


def test_a_failover_to_a_replica_that_refuses_writes_is_waited_for(own_server: Server, start: Start) -> None:
    client = connections.connect(own_server.url)
    send(client, "j1")
    engine = start(lambda _claim: None, url=own_server.url)
    engine.until(lambda: engine.executor.running, "it runs")
    client.replicaof("127.0.0.1", "9")
    [held] = engine.executor.running.values()
    engine.executor.end(held, finished())
    engine.until(lambda: not engine.engine.reaches_redis, "it is refused")
    client.replicaof("NO", "ONE")
    engine.until(lambda: status(client, "j1") == "finished", "the end is written")
    engine.until(lambda: engine.engine.reaches_redis, "it knows that Redis is back")


def test_an_idle_engine_does_not_stay_with_a_server_that_stands_still(own_server: Server, start: Start, tmp_path: Path) -> None:
    client = connections.connect(own_server.url)
    engine = start(finished, url=own_server.url)
    engine.until(lambda: client.exists("rq:worker:w1"), "it has enrolled")
    client.execute_command("CLIENT", "PAUSE", 60_000, "ALL")
    began = time.monotonic()
    engine.stop()
    assert time.monotonic() - began < 6.0


@pytest.mark.parametrize("how", ["drain", "idle"])
def test_an_engine_that_ends_leaves_nothing_to_the_claim_behind_its_bell(
    redis_client: redis.Redis, start: Start, how: str
) -> None:
    """Jobs come all the while that it ends: each is done, or still in the queue."""
    engine = start(finished, bounds=Bounds(max_idle_s=0.3 if how == "idle" else None))
    engine.until(lambda: redis_client.exists("rq:worker:w1"), "it has enrolled")
    if how == "drain":
        engine.drain.begin()
    ids = numbered(30)
    send(redis_client, *ids)
    engine.ended()
    assert not redis_client.exists(keys.wip("default"))
    assert {status(redis_client, job_id) for job_id in ids} <= {"queued", "finished"}
