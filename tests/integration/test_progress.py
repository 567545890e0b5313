"""Progress as running jobs report it: fenced, throttled, from threads and coroutines, and no reason for a job to fail."""

import time
from pathlib import Path

import pytest
import redis
import sample_tasks
from command_counts import commands_of
from hands import Hands
from processes import Processes, wait_for
from servers import Server

from jobs import connections, keys
from jobs.errors import InvalidField
from jobs.queue import job_store, progress
from jobs.queue.calling import enqueue
from jobs.queue.ending import Claim
from jobs.queue.progress import Progress
from jobs.queue.running import RunningJob
from jobs.queue.task import Task


def begin(hands: Hands, job_id: str = "j") -> Claim:
    """A job in the worker's hands."""
    enqueue(hands.client, sample_tasks.fail_later.spec("x", job_id=job_id), now=time.time())
    return hands.must_claim("default")


def running(claim: Claim, client: redis.Redis) -> RunningJob:
    return RunningJob(claim.id, claim.queue, claim.attempt, claim.worker, claim.execution, client)


def reported(client: redis.Redis, job_id: str = "j") -> Progress | None:
    return job_store.get(client, job_id).progress


def test_a_report_is_on_the_job_and_stays_there_when_it_has_finished(redis_client: redis.Redis, hands: Hands) -> None:
    claim = begin(hands)
    assert reported(redis_client) is None
    running(claim, redis_client).progress(3, 8, "third of eight")
    shown = reported(redis_client)
    assert shown is not None and (shown.current, shown.total, shown.message) == (3, 8, "third of eight")
    assert abs(shown.at - time.time()) < 5
    hands.finish(claim)
    assert reported(redis_client) == shown


def test_the_script_writes_twice_what_is_said_twice(redis_client: redis.Redis, hands: Hands) -> None:
    claim = begin(hands)
    made = progress.report(1, 2, "", time.time())
    for _ in range(2):
        assert progress.write(redis_client, claim.id, claim.queue, claim.execution, made)
        assert reported(redis_client) == made


def test_a_zombie_reports_nothing(redis_client: redis.Redis, hands: Hands) -> None:
    zombie = running(begin(hands), redis_client)
    hands.reclaim("default")
    heir = hands.must_claim("default")
    zombie.progress(1, 2)
    assert redis_client.hget(keys.job("j"), "progress") is None
    running(heir, redis_client).progress(2, 4)
    zombie.progress(2, 2)
    shown = reported(redis_client)
    assert shown is not None and shown.total == 4


def test_a_job_that_is_gone_is_not_brought_back_by_its_report(redis_client: redis.Redis, hands: Hands) -> None:
    claim = begin(hands)
    redis_client.delete(keys.job("j"))
    running(claim, redis_client).progress(1, 2)
    assert not redis_client.exists(keys.job("j"))


def test_the_next_attempt_starts_without_progress_and_so_does_a_run_after_a_crash(
    redis_client: redis.Redis, hands: Hands
) -> None:
    claim = begin(hands)
    running(claim, redis_client).progress(1, 2)
    hands.fail(claim, ValueError("x"))
    assert reported(redis_client) is None, "it waits for its next attempt"
    hands.promote("default")
    second = hands.must_claim("default")
    assert reported(redis_client) is None
    running(second, redis_client).progress(1, 3)
    assert reported(redis_client) is not None
    hands.reclaim("default")
    hands.must_claim("default")
    assert reported(redis_client) is None


def test_a_tight_loop_costs_two_writes(redis_client: redis.Redis, hands: Hands) -> None:
    job = running(begin(hands), redis_client)
    job.progress(0, 1_000)
    before = commands_of(redis_client)
    started = time.monotonic()
    for step in range(1, 1_001):
        job.progress(step, 1_000)
    allowed = 1 + (time.monotonic() - started) / progress.INTERVAL_S
    assert commands_of(redis_client).get("evalsha", 0) - before.get("evalsha", 0) <= allowed
    shown = reported(redis_client)
    assert shown is not None and shown.current == 1_000


def test_bad_arguments_are_refused_also_when_nothing_would_be_written(redis_client: redis.Redis, hands: Hands) -> None:
    job = running(begin(hands), redis_client)
    job.progress(1, 2)
    with pytest.raises(InvalidField):
        job.progress(-1, 2)


def test_while_redis_is_away_a_report_costs_little_and_raises_nothing(own_server: Server) -> None:
    client = connections.connect(own_server.url)
    job = RunningJob("j", "default", 1, "w", "e", client)
    own_server.kill()
    started = time.monotonic()
    for step in range(1_000):
        job.progress(step, 2_000)
    assert time.monotonic() - started < 5
    client.connection_pool.disconnect()


def test_a_full_memory_takes_no_report_and_raises_nothing(own_server: Server) -> None:
    client = connections.connect(own_server.url)
    client.zadd(keys.wip("default"), {"j:e": 1})
    client.hset(keys.job("j"), "status", "started")
    client.config_set("maxmemory", 1)
    assert progress.write(client, "j", "default", "e", progress.report(1, 2, "", 1.0)) is False
    client.connection_pool.disconnect()


@pytest.mark.parametrize("task", [sample_tasks.report, sample_tasks.report_async], ids=["sync", "async, from a thread"])
@pytest.mark.parametrize("stock", [False, True], ids=["our worker", "a stock worker"])
def test_a_running_job_reports(redis_client: redis.Redis, processes: Processes, tmp_path: Path, stock: bool, task: Task) -> None:
    (processes.stock_worker if stock else processes.worker)("default")
    enqueue(redis_client, task.spec(str(tmp_path), job_id="j"), now=time.time())
    shown = wait_for(lambda: reported(redis_client), 30, "the job reports")
    assert shown is not None and (shown.current, shown.total, shown.message) == (1, 2, "half")
    (tmp_path / "go").touch()
    wait_for(lambda: job_store.get(redis_client, "j").status == "finished", 30, "the job finishes")
    last = reported(redis_client)
    assert last is not None and (last.current, last.total) == (2, 2)
