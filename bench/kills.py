"""Kills workers all the time while short jobs run: `python bench/kills.py [--kills 150] [--jobs 30000] [--seed 1]`.

Two CpuWorkers and an IoWorker serve three queues, each in another order. In the middle of every portion of the jobs one is
killed (SIGKILL to the parent, to a child, or to all at once) and started again as a platform does it, without waiting.

Fails when a job is lost or acknowledged twice. One whose workers were killed three times in a row is a dead letter, not lost.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import processes
from killing import Ground, Process, ground, options, wait_for
from observed import short, short_async
from server import about

from jobs.queue.calling import Calling

QUEUES = ("a", "b", "c")
WORKERS = (("CpuWorker", "a", "b", "c"), ("CpuWorker", "c", "a", "b"), ("IoWorker", "b", "c", "a"))
WAYS = ("parent", "child", "all")
LIMIT_S = 60.0


def send(n_jobs: int) -> list[str]:
    """Enqueues jobs, spread over the queues, half of them coroutines."""
    ids: list[str] = []
    for place, queue in enumerate(QUEUES):
        for kind, task in enumerate((short, short_async)):
            share = len(range(place * 2 + kind, n_jobs, len(QUEUES) * 2))
            calling: Calling = task.options(queue=queue, result_ttl_s=3_600)
            ids += [handle.id for handle in calling.enqueue_many([()] * share)]
    return ids


def kill(worker: Process, way: str, chance: random.Random) -> bool:
    """Kills the worker, or a child of it; returns whether it has to be started again."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    if way == "child" and worker.poll() is None and (pids := children.read_text().split()):
        os.kill(int(chance.choice(pids)), signal.SIGKILL)
        return False
    if way == "all":
        processes.send([worker], signal.SIGKILL)
    else:
        worker.send_signal(signal.SIGKILL)
    return True


def torment(base: Ground, kills: int, n_jobs: int, chance: random.Random) -> list[str]:
    """Enqueues portions and kills in each; returns the ids of all jobs, which have ended."""
    running = [base.worker(*worker) for worker in WORKERS]
    ids: list[str] = []
    for number in range(kills):
        before = base.ended(*QUEUES)
        ids += send(n_jobs * (number + 1) // kills - len(ids))
        goal = before + chance.randrange(max(1, n_jobs // kills))
        wait_for(lambda goal=goal: base.ended(*QUEUES) >= goal, LIMIT_S, "jobs end")
        wait_for(lambda: base.at_work(running), LIMIT_S, "a worker is at work")
        victim = chance.choice(base.at_work(running))
        if kill(victim, chance.choice(WAYS), chance):
            place = running.index(victim)
            running[place] = base.start_worker(*WORKERS[place])
    wait_for(lambda: base.ended(*QUEUES) >= n_jobs, LIMIT_S, "all jobs end")
    return ids


def main() -> None:
    """Reads the options and runs."""
    parser = options(__doc__, 150)
    parser.add_argument("--jobs", type=int, default=30_000)
    given = parser.parse_args()
    with ground(aof_always=given.aof_always, TURNSTILE_CPU_CHILDREN="2", TURNSTILE_LOG_LEVEL="WARNING") as base:
        print(about(base.server.about()))
        base.scheduler()
        began = time.monotonic()
        ids = torment(base, given.kills, given.jobs, random.Random(given.seed))
        seconds = time.monotonic() - began
        statuses = base.statuses(ids)
        twice = base.doubled(ids)
        print(f"{given.kills} kills over {given.jobs:,} jobs on {len(QUEUES)} queues in {seconds:.0f} s")
        print(f"{dict(statuses)}, {base.total('reclaimed', *QUEUES):,} reclaims")
        lost = given.jobs - statuses["finished"] - statuses["failed"]
        beyond = base.ended(*QUEUES) - given.jobs
        print(f"lost: {lost}, acknowledged twice: {max(len(twice), beyond)}")
        sys.exit(bool(lost or twice or beyond))


if __name__ == "__main__":
    main()
