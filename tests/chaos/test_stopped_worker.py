"""A worker that stands still for two leases and wakes up beside the one that has its job now: one result, one effect."""

import os
import signal
import time
from pathlib import Path

import pytest
import redis
import sample_tasks
from job_watch import LIMIT_S, wait_for_file
from processes import Process, Processes, wait_for

from jobs import keys
from jobs.queue.canvas import chain
from jobs.queue.canvas_handle import launch
from jobs.queue.canvas_parts import signature

LEASE_S = 2.0


def fields(client: redis.Redis, job_id: str, *names: str) -> list[str]:
    return [(value or b"").decode() for value in client.hmget(keys.job(job_id), *names)]


@pytest.mark.parametrize("kind", ["CpuWorker", "IoWorker"])
def test_a_worker_that_wakes_up_after_two_leases_writes_no_result_and_no_effect(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path, kind: str
) -> None:
    def worker() -> Process:
        return processes.worker("default", options=("-w", f"jobs.queue.worker.{kind}"), TURNSTILE_LEASE_S=str(LEASE_S))

    processes.start("python", "-m", "scheduler", TURNSTILE_LEASE_S=str(LEASE_S))
    stopped = worker()
    # The effect of the first job's end is the second job.
    handle = launch(redis_client, chain(signature(sample_tasks.hold, (str(tmp_path),)), signature(sample_tasks.collect)))
    wait_for_file(tmp_path / "started-1")
    [member] = redis_client.zrange(keys.wip("default"), 0, -1)
    job_id = member.decode().partition(":")[0]
    [first] = fields(redis_client, job_id, "worker_name")
    os.killpg(stopped.pid, signal.SIGSTOP)
    awake_at = time.monotonic() + 2 * LEASE_S
    other = worker()
    again = ["started", "1"]
    wait_for(
        lambda: (
            fields(redis_client, job_id, "status", "crashes") == again and fields(redis_client, job_id, "worker_name") != [first]
        ),
        LIMIT_S,
        "the job runs again",
    )
    wait_for(lambda: time.monotonic() > awake_at, LIMIT_S, "two leases have passed")
    os.killpg(stopped.pid, signal.SIGCONT)
    (tmp_path / "go").touch()
    stopped.prints("lease lost", LIMIT_S)
    assert handle.wait(LIMIT_S) == [1]
    view = handle.view()
    assert (view.done, view.total, view.failed) == (2, 2, 0)
    [(_id, written)] = redis_client.xrange(keys.results(job_id))
    assert written[b"worker_name"].decode() not in (first, "")
    totals = redis_client.hgetall(keys.totals("default"))
    assert {name: totals.get(name, b"0") for name in (b"finished", b"reclaimed", b"dead")} == {
        b"finished": b"2",
        b"reclaimed": b"1",
        b"dead": b"0",
    }
    wait_for(lambda: not redis_client.exists(keys.wip("default"), keys.queue("default")), LIMIT_S, "nothing is left")
    assert stopped.runs and other.runs
