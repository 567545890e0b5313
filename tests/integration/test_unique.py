"""Unique jobs: one unfinished job of a call, whoever races, dies or deletes; or one in a time."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
import sample_tasks
from hands import Hands
from job_watch import LIMIT_S, wait_until
from processes import ROOT, Processes, wait_for
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import Conflict, Permanent
from jobs.queue import calling, dead_letters, ending, job_store, overview
from jobs.queue.handle import JobHandle
from jobs.settings import Settings

NOW = 1_763_764_205.0
RACERS = 12
ROUNDS = 150
RACE = """
import sys, time
import sample_tasks
from jobs import connections
from jobs.queue.calling import place
client = connections.process_client()
log, rounds = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(rounds):
    place(client, sample_tasks.overlap.spec(log, "same"), now=time.time())
"""


@pytest.fixture(autouse=True)
def _settings(settings: Settings) -> None:
    """Handles ask the test's Redis."""


def unfinished(client: redis.Redis) -> list[str]:
    """Ids of jobs that have not ended."""
    found = snapshot(client)
    waiting = {"queued", "started", "scheduled", "deferred"}
    return [
        name[7:] for name, job in found.items() if name.startswith("rq:job:") and job is not True and job["status"] in waiting
    ]


def test_a_call_that_waits_already_is_not_enqueued_again(redis_client: redis.Redis) -> None:
    first = sample_tasks.single.delay()
    before = snapshot(redis_client)
    for again in (sample_tasks.single.delay(), sample_tasks.single.enqueue_in(60), *sample_tasks.single.enqueue_many([(), ()])):
        assert again.id == first.id
    assert changes(before, snapshot(redis_client)) == {}


def test_a_call_with_other_arguments_is_another_call(redis_client: redis.Redis) -> None:
    calls = sample_tasks.add.options(unique=True)
    ids = [calls.delay(1, 2).id, calls.delay(1, 3).id, calls.delay(a=1, b=2).id, calls.delay(1, b=3).id]
    assert (ids[0], ids[1]) == (ids[2], ids[3])
    assert ids[0] != ids[1]
    assert sample_tasks.add.delay(1, 2).id not in ids, "a call that is not unique asks for no lock"


@pytest.mark.parametrize(
    "how", ["finished", "kept not", "dead", "quarantined", "cancelled", "expired", "deleted", "purged", "discarded"]
)
def test_after_the_job_has_ended_the_call_can_be_enqueued_again(redis_client: redis.Redis, hands: Hands, how: str) -> None:
    first = sample_tasks.single.delay()
    if how == "cancelled":
        job_store.cancel(redis_client, first.id, time.time())
    elif how == "deleted":
        redis_client.delete(keys.job(first.id))
    elif how == "purged":
        overview.purge(redis_client, "default")
    else:
        claim = hands.must_claim("default")
        assert sample_tasks.single.delay().id == first.id, "it runs"
        if how in ("finished", "kept not"):
            hands.finish(claim, result_ttl_s=500 if how == "finished" else 0)
        elif how == "expired":
            ending.expire(redis_client, claim, time.time())
        elif how == "quarantined":
            ending.bury_crashed(redis_client, "default", claim.member, time.time())
        else:
            hands.fail(claim, Permanent("no"))
            if how == "discarded":
                dead_letters.discard(redis_client, first.id)
    if how not in ("deleted", "purged"):
        assert not redis_client.keys("turnstile:unique:*")
    second = sample_tasks.single.delay()
    assert second.id != first.id
    assert sample_tasks.single.delay().id == second.id
    assert unfinished(redis_client) == [second.id]


def test_a_job_keeps_its_lock_while_it_is_retried_deferred_handed_back_or_reclaimed(
    redis_client: redis.Redis, hands: Hands
) -> None:
    first = sample_tasks.single.delay()
    hands.fail(hands.must_claim("default"), ValueError("x"), uniform=0.9)
    assert sample_tasks.single.delay().id == first.id
    hands.promote("default")
    ending.release(redis_client, hands.must_claim("default"), time.time(), time.time() + 60)
    assert sample_tasks.single.delay().id == first.id
    hands.promote("default")
    ending.release(redis_client, hands.must_claim("default"), time.time())
    assert sample_tasks.single.delay().id == first.id
    hands.must_claim("default")
    hands.reclaim("default")
    assert sample_tasks.single.delay().id == first.id
    assert unfinished(redis_client) == [first.id]


def test_a_worker_that_has_lost_its_lease_does_not_free_the_lock(redis_client: redis.Redis, hands: Hands) -> None:
    first = sample_tasks.single.delay()
    stale = hands.must_claim("default")
    hands.reclaim("default")
    hands.finish(hands.must_claim("default"))
    second = sample_tasks.single.delay()
    assert second.id != first.id
    before = snapshot(redis_client)
    hands.finish(stale)
    hands.fail(stale, Permanent("no"))
    assert changes(before, snapshot(redis_client)) == {}


def test_for_a_time_a_second_call_is_refused_though_the_first_is_done(redis_client: redis.Redis, hands: Hands) -> None:
    calls = sample_tasks.add.options(unique=60)
    first = calls.delay(1, 2)
    [lock] = redis_client.keys("turnstile:unique:*")
    assert 55_000 < redis_client.pttl(lock) <= 60_000
    hands.finish(hands.must_claim("default"), 3, result_ttl_s=0)
    assert calls.delay(1, 2).id == first.id
    assert unfinished(redis_client) == []
    redis_client.pexpire(lock, 1)
    wait_for(lambda: not redis_client.exists(lock), LIMIT_S, "the time is over")
    assert calls.delay(1, 2).id != first.id


def test_for_a_time_the_same_id_does_not_run_again_though_its_job_is_gone(redis_client: redis.Redis, hands: Hands) -> None:
    calls = sample_tasks.add.options(unique=60)
    job = sample_tasks.add.build(calls.defaults, (1, 2), {}, job_id="one", now=NOW)
    assert calling.place(redis_client, job, now=NOW) == ("one", True)
    hands.finish(hands.must_claim("default"), 3, result_ttl_s=0)
    assert calling.place(redis_client, job, now=NOW) == ("one", False)


def test_the_same_unique_job_sent_twice_is_created_once(redis_client: redis.Redis) -> None:
    job = sample_tasks.single.spec(job_id="one")
    assert calling.place(redis_client, job, now=NOW) == ("one", True)
    before = snapshot(redis_client)
    assert calling.place(redis_client, job, now=NOW) == ("one", False)
    assert changes(before, snapshot(redis_client)) == {}


def test_a_lock_outlives_the_longest_wait_for_its_start(redis_client: redis.Redis) -> None:
    calling.place(redis_client, sample_tasks.single.spec(job_id="one"), now=NOW, due_at=NOW + 300 * 86_400)
    [lock] = redis_client.keys("turnstile:unique:*")
    assert redis_client.ttl(lock) > 300 * 86_400


def test_a_lock_whose_holder_vanished_is_taken_over(redis_client: redis.Redis) -> None:
    job = sample_tasks.single.spec(job_id="one")
    redis_client.set(job.lock, "vanished")
    assert calling.place(redis_client, job, now=NOW) == ("one", True)
    assert redis_client.get(job.lock) == b"one"


def test_a_dead_letter_whose_call_waits_again_is_not_redriven_beside_it(redis_client: redis.Redis, hands: Hands) -> None:
    first = sample_tasks.single.delay()
    hands.fail(hands.must_claim("default"), Permanent("no"))
    second = sample_tasks.single.delay()
    with pytest.raises(Conflict, match=second.id):
        dead_letters.redrive(redis_client, first.id)
    hands.finish(hands.must_claim("default"))
    dead_letters.redrive(redis_client, first.id)
    assert sample_tasks.single.delay().id == first.id


def test_twelve_processes_racing_never_have_two_unfinished_jobs_nor_two_that_run_at_once(
    redis_client: redis.Redis, processes: Processes, process_environ: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    for _ in range(3):
        processes.worker("default").prints("worker started", LIMIT_S * 2)
    command = [sys.executable, "-c", RACE, str(log), str(ROUNDS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    racers = [subprocess.Popen(command, cwd=ROOT, env=process_environ, **pipes) for _ in range(RACERS)]  # type: ignore[call-overload]
    try:
        for racer in racers:
            racer.stdout.readline()
        for racer in racers:
            racer.stdin.write(b"go\n")
            racer.stdin.flush()
        while any(racer.poll() is None for racer in racers):
            jobs = unfinished_at_once(redis_client)
            assert len(jobs) <= 1, jobs
        assert [racer.wait(LIMIT_S) for racer in racers] == [0] * RACERS
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    wait_for(lambda: not unfinished(redis_client), LIMIT_S, "all jobs have ended")
    said = log.read_text().split()[::2]
    assert said == ["start", "stop"] * (len(said) // 2), "two ran at once"
    assert len(said) // 2 > 1
    assert int(redis_client.hget(keys.totals("default"), "finished") or 0) == len(said) // 2
    assert not redis_client.keys("turnstile:unique:*")


AT_ONCE = """
local found = {}
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do found[#found + 1] = id end
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do found[#found + 1] = member end
return found
"""


def unfinished_at_once(client: redis.Redis) -> list[bytes]:
    """Jobs in the queue and in the workers' hands, at one moment."""
    found: list[bytes] = client.eval(AT_ONCE, 2, keys.queue("default"), keys.wip("default"))
    return found


def test_a_stock_workers_finished_job_frees_its_call(redis_client: redis.Redis, processes: Processes) -> None:
    first = sample_tasks.single.delay()
    processes.stock_worker("default", options=("--burst",)).ended(LIMIT_S)
    wait_until(redis_client, first.id, "finished")
    second: JobHandle = sample_tasks.single.delay()
    assert second.id != first.id
