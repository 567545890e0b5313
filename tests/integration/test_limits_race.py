"""Twelve real workers race for the jobs of limited tasks, and some of them are killed."""

import os
import random
import time
from pathlib import Path

import pytest
import redis
import sample_tasks
from processes import Process, Processes, wait_for

from jobs import keys
from jobs.queue.calling import enqueue
from scheduler.reclaim import Reclamation

WORKERS = 12
RATE_PER_S = 50
RATE_S = float(os.environ.get("TEST_RATE_S", "4"))
"""How long the rate is measured; the figure to quote is that of 10 s."""
RATE_ERROR = 10
"""Starts too many or too few: 2 % of 10 s."""
AT_ONCE = 3
START_S = 60.0
LEASE_S = 2.0


@pytest.fixture
def workers(redis_client: redis.Redis, processes: Processes) -> list[Process]:
    """All of them, enrolled; a job's process is its worker's."""
    processes.worker_class = "IoWorker"
    started = [processes.worker("default", TURNSTILE_LEASE_S=str(LEASE_S)) for _ in range(WORKERS)]
    wait_for(lambda: redis_client.scard(keys.WORKERS) == WORKERS, START_S, "all workers enrol")
    return started


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def test_the_rate_is_kept_over_all_workers(redis_client: redis.Redis, workers: list[Process], tmp_path: Path) -> None:
    log = tmp_path / "starts"
    expected = RATE_PER_S * RATE_S
    for _ in range(int(expected) + 100):
        enqueue(redis_client, sample_tasks.rated.spec(str(log)), now=time.time())
    wait_for(lambda: len(lines(log)) > expected + RATE_ERROR, RATE_S * 2 + 10, "the workers start enough jobs")
    starts = sorted(map(float, lines(log)))
    found = sum(start < starts[0] + RATE_S for start in starts)
    print(f"{found} starts in {RATE_S:g} s, {found / expected - 1:+.2%}")
    assert abs(found - expected) <= RATE_ERROR
    assert all(worker.runs for worker in workers)


def test_never_more_run_at_once_than_may_even_when_workers_are_killed(
    redis_client: redis.Redis, workers: list[Process], tmp_path: Path
) -> None:
    log, n_jobs = tmp_path / "runs", 80
    for _ in range(n_jobs):
        enqueue(redis_client, sample_tasks.few.spec(str(log), 0.05), now=time.time())
    duty, died, chance = Reclamation(redis_client), dict[int, float](), random.Random(1)

    def done() -> bool:
        duty.tick(time.time())
        running = [pid for pid in map(int, (line.split()[1] for line in lines(log)[-AT_ONCE:])) if pid not in died]
        if len(died) < AT_ONCE and len(lines(log)) > 30 * (len(died) + 1) and running:
            pid = chance.choice(running)
            next(worker for worker in workers if worker.pid == pid).kill()
            died[pid] = time.time()
        return int(redis_client.zcard(keys.finished("default"))) == n_jobs

    wait_for(done, 60.0, "all jobs end")
    assert len(died) == AT_ONCE
    assert most_at_once(lines(log), died) == AT_ONCE


def test_in_burst_mode_a_worker_stays_for_the_jobs_that_are_held(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    log = tmp_path / "starts"
    for _ in range(30):
        enqueue(redis_client, sample_tasks.rated.spec(str(log)), now=time.time())
    assert processes.worker("default", options=("--burst",)).ended(START_S) == 0
    starts = sorted(map(float, lines(log)))
    assert len(starts) == 30
    assert starts[-1] - starts[0] > 0.3


def most_at_once(log: list[str], died: dict[int, float]) -> int:
    """The most jobs that ran at one time in living processes."""
    open_since: dict[str, float] = {}
    events: list[tuple[float, int]] = []
    for what, pid, at in sorted((line.split() for line in log), key=lambda parts: float(parts[2])):
        if what == "start":
            open_since[pid] = float(at)
        else:
            events += [(open_since.pop(pid), 1), (float(at), -1)]
    for pid, start in open_since.items():
        events += [(start, 1), (died[int(pid)], -1)]
    running = most = 0
    for _at, change in sorted(events):
        running += change
        most = max(most, running)
    return most
