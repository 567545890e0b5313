"""Stock workers on two queues, killed and stopped while they are busy: what they lose is back within seconds, and runs once more.

Such a worker pops a job and registers it a few commands later; what ends it in between loses the job (rq 2.12.0 queue.py
`lpop`). A worker that is stopped while it waits has the reply of its pop in its socket: so a test can lose a job at will.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial

import pytest
import redis
import sample_tasks
from job_watch import send, status
from processes import Process, Processes, wait_for

from jobs import keys
from jobs.queue import ending
from scheduler.sweep import Sweep

LIMIT_S = 60.0
BACK_WITHIN_S = 15.0
"""Ten on a machine that has nothing else to do."""
QUEUES = ("alpha", "beta")
STOPS = (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL)
ROUNDS = 10
"""Of two stops each."""
JOBS = 400
LEASED_S = 3.0
"""The jobs of this test take milliseconds: one that has been leased for so long has no worker."""
POLL_S = 0.05
GRACE_S = 25.0


def start(processes: Processes, client: redis.Redis, *names: str) -> list[Process]:
    workers = [processes.stock_worker(*QUEUES, options=("--name", name)) for name in names]
    for name in names:
        wait_for(partial(client.exists, keys.worker(name)), LIMIT_S, f"{name} is registered")
    return workers


def is_nowhere(client: redis.Redis, job_id: str) -> bool:
    """Whether it says that it waits, and is in no list and with no worker."""
    found = any(client.lpos(keys.queue(queue), job_id) is not None for queue in QUEUES)
    leased = any(member.split(b":")[0].decode() == job_id for queue in QUEUES for member in client.zrange(keys.wip(queue), 0, -1))
    return not found and not leased and status(client, job_id) == "queued"


def popped_by_a_stopped_worker(client: redis.Redis, worker: Process, job_id: str, queue: str = "beta") -> str:
    """Sends a job to a worker that stands still while it waits: it is nowhere then."""
    wait_for(lambda: _waits_for_a_job(client), LIMIT_S, "the worker waits for a job")
    os.kill(worker.pid, signal.SIGSTOP)
    send(client, sample_tasks.add.spec(1, 2, job_id=job_id, queue=queue))
    wait_for(lambda: is_nowhere(client, job_id), LIMIT_S, "the server has given the job away")
    return job_id


def _waits_for_a_job(client: redis.Redis) -> bool:
    return any(entry["cmd"] == "blpop" for entry in client.client_list())


def end(worker: Process) -> None:
    """As a platform does it: a stock worker may miss a SIGTERM (what catches every exception eats its StopRequested)."""
    try:
        worker.ended(GRACE_S)
    except AssertionError:
        worker.kill()


def scheduler(processes: Processes, client: redis.Redis) -> None:
    processes.start("python", "-m", "scheduler")
    wait_for(lambda: client.exists(keys.SCHEDULER), LIMIT_S, "the scheduler leads")


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_what_a_stock_worker_lost_stays_lost_until_a_scheduler_sweeps(
    redis_client: redis.Redis, processes: Processes, stop: signal.Signals
) -> None:
    [worker] = start(processes, redis_client, "first")
    popped_by_a_stopped_worker(redis_client, worker, "lost")
    os.kill(worker.pid, stop)
    os.kill(worker.pid, signal.SIGCONT)
    worker.ended(LIMIT_S)
    # Another worker does what stands behind it, and all that a stock worker does about lost jobs.
    start(processes, redis_client, "second")
    send(redis_client, sample_tasks.add.spec(1, 2, job_id="behind", queue="beta"))
    wait_for(lambda: status(redis_client, "behind") == "finished", LIMIT_S, "the next job is done")
    assert is_nowhere(redis_client, "lost")
    scheduler(processes, redis_client)
    led_at = time.monotonic()
    wait_for(lambda: status(redis_client, "lost") == "finished", LIMIT_S, "the lost job is done")
    assert time.monotonic() - led_at < BACK_WITHIN_S
    assert redis_client.xlen(keys.results("lost")) == 1
    assert redis_client.hget(keys.job("lost"), "crashes") is None


def test_a_stock_worker_that_stands_still_for_two_seconds_after_it_popped_runs_its_job_alone(
    redis_client: redis.Redis, processes: Processes
) -> None:
    [worker] = start(processes, redis_client, "first")
    popped_by_a_stopped_worker(redis_client, worker, "a")
    # The duty by hand, for its own clock says how long the worker has stood still.
    duty, since = Sweep(redis_client), time.time()
    while (now := time.time()) < since + 2:
        assert duty.tick(now)["requeued"] == 0
        time.sleep(duty.interval_s)
    os.kill(worker.pid, signal.SIGCONT)
    wait_for(lambda: status(redis_client, "a") == "finished", LIMIT_S, "the job is done")
    assert sum(duty.tick(time.time() + after)["requeued"] for after in range(8)) == 0
    assert redis_client.xlen(keys.results("a")) == 1
    assert redis_client.hget(keys.totals("beta"), "enqueued") == b"1"


@pytest.mark.timeout(600)  # each of the stops may be one that a worker misses
def test_stock_workers_that_are_killed_and_stopped_again_and_again_lose_nothing(
    redis_client: redis.Redis, processes: Processes, record_property: Callable[[str, object], None]
) -> None:
    scheduler(processes, redis_client)
    chance = random.Random(5)
    jobs = [sample_tasks.add.spec(1, 2, job_id=f"j{number}", queue=chance.choice(QUEUES)) for number in range(JOBS)]
    ids = [send(redis_client, job) for job in jobs]
    lost_at, back_after = dict[str, float](), list[float]()

    def note() -> None:
        for job_id in [job_id for job_id in lost_at if not is_nowhere(redis_client, job_id)]:
            back_after.append(time.monotonic() - lost_at.pop(job_id))

    workers = start(processes, redis_client, "w0", "v0")
    for number in range(1, ROUNDS + 1):
        time.sleep(chance.uniform(0.05, 0.3))  # into the middle of whatever they do
        for worker in workers:
            worker.send(chance.choice(STOPS))
        for worker in workers:
            end(worker)
        ended_at = time.monotonic()
        lost_at |= {job_id: ended_at for job_id in ids if job_id not in lost_at and is_nowhere(redis_client, job_id)}
        workers = start(processes, redis_client, f"w{number}", f"v{number}")
        note()
    leased_since: dict[bytes, float] = {}
    deadline = time.monotonic() + LIMIT_S
    while any(status(redis_client, job_id) != "finished" for job_id in ids):
        assert time.monotonic() < deadline, [job_id for job_id in ids if status(redis_client, job_id) != "finished"]
        note()
        end_long_leases(redis_client, leased_since)
        time.sleep(POLL_S)
    note()
    print(f"lost: {len(back_after)}, back after {[round(seconds, 1) for seconds in back_after]} s")
    record_property("back_after_s", [round(seconds, 1) for seconds in back_after])
    assert not lost_at
    assert max(back_after, default=0.0) < BACK_WITHIN_S


def end_long_leases(client: redis.Redis, leased_since: dict[bytes, float]) -> None:
    """What a worker had registered when it was killed is not lost: RQ gives it 90 seconds, which nobody waits for here."""
    for queue in QUEUES:
        for member in client.zrange(keys.wip(queue), 0, -1):
            if time.monotonic() - leased_since.setdefault(member, time.monotonic()) > LEASED_S:
                ending.EXTEND(client, [keys.wip(queue)], [repr(time.time()), member])
