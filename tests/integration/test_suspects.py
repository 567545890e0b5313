"""Who is charged with a worker's death: of the jobs that it had in its hands, only one that had begun."""

import signal
import time

import pytest
import redis
import sample_tasks
from hands import Hands
from job_watch import LIMIT_S, wait_until
from processes import Processes

from jobs import keys
from jobs.queue import claiming
from jobs.queue.calling import enqueue
from jobs.queue.ending import Claim
from jobs.queue.suspects import CRASHES, TRIAL_S, Suspects

LEASE_S = 4.0


def claimed(client: redis.Redis, *executions: str) -> list[Claim]:
    return claiming.claim(client, ["default"], "w", LEASE_S, now=time.time(), executions=executions).jobs


def crashes(client: redis.Redis, job_id: str) -> int:
    return int(client.hget(keys.job(job_id), "crashes") or 0)


def test_a_suspect_that_had_not_begun_is_not_charged_again(redis_client: redis.Redis, hands: Hands) -> None:
    for name in ("a", "b"):
        enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id=name), now=time.time())
    later = time.time() + LEASE_S + 1
    suspects = Suspects()
    for time_ in range(CRASHES):
        found = claimed(redis_client, f"w-a{time_}", f"w-b{time_}")
        assert suspects.sorted_out(found) == found
        hands.reclaim("default", now=later)
    assert (crashes(redis_client, "a"), crashes(redis_client, "b")) == (CRASHES, CRASHES), "until then nobody knows"
    found = claimed(redis_client, "w-3", "w-4")
    assert suspects.sorted_out(found) == []
    guilty = suspects.begin(redis_client, 0.0)
    [innocent] = suspects.take_back()
    reclaimed, buried, _ghosts = hands.reclaim("default", now=later)
    assert ([member.partition(":")[0] for member in buried], reclaimed) == ([guilty.id], [innocent.id])


def test_the_next_suspect_begins_when_the_one_before_has_ended_or_run_for_a_while(redis_client: redis.Redis) -> None:
    suspects = Suspects()
    first, second, clean = (
        Claim(name, f"w-{name}", "default", "w", fields, 0.0)
        for name, fields in (("a", {b"crashes": b"2"}), ("b", {b"crashes": b"2"}), ("c", {b"crashes": b"1"}))
    )
    assert suspects.sorted_out([first, clean, second]) == [clean]
    assert suspects.next_at(lambda _member: False) == 0.0
    assert suspects.begin(redis_client, 100.0) == first
    assert suspects.next_at([first.member].__contains__) == 100.0 + TRIAL_S
    assert suspects.next_at([clean.member].__contains__) == 0.0
    assert (suspects.begin(redis_client, 101.0), len(suspects)) == (second, 0)


def test_a_lost_lease_and_a_deleted_job_leave_no_trace(redis_client: redis.Redis) -> None:
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="a"), now=time.time())
    suspects = Suspects()
    [claim] = claimed(redis_client, "w-1")
    for lost in ("its lease", "the job"):
        if lost == "its lease":
            redis_client.zrem(keys.wip("default"), claim.member)
        else:
            redis_client.delete(keys.job("a"))
        suspects.sorted_out([Claim("a", "w-1", "default", "w", {b"crashes": b"2"}, 0.0)])
        suspects.begin(redis_client, 0.0)
        assert redis_client.hget(keys.job("a"), "begun") is None


@pytest.mark.parametrize("slots", ["1", "10"])
def test_only_the_job_that_kills_its_workers_is_quarantined(
    redis_client: redis.Redis, hands: Hands, processes: Processes, slots: str
) -> None:
    processes.worker_class = "IoWorker"
    names = ["a", "b", "poison", "c", "d"]
    for name in names:
        spec = sample_tasks.die.spec(job_id=name) if name == "poison" else sample_tasks.add.spec(1, 2, job_id=name)
        enqueue(redis_client, spec, now=time.time())
    buried: list[str] = []
    for _ in range(3):
        worker = processes.worker("default", TURNSTILE_IO_SLOTS=slots)
        assert worker.ended(LIMIT_S) == -signal.SIGKILL
        buried = hands.reclaim("default", now=time.time() + 60)[1]
    assert [member.partition(":")[0] for member in buried] == ["poison"]
    processes.worker("default", TURNSTILE_IO_SLOTS=slots)
    for name in set(names) - {"poison"}:
        wait_until(redis_client, name, "finished")
