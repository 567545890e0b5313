"""How fast due jobs reach their queue, ours beside both stock schedulers: `python bench/promote.py [--rounds 3] [--jobs 100000]`.

All jobs are due at one instant. The scheduler, a process as its users start it, waits for it; slow ones get fewer jobs, and what
they would need for all follows from their rate. Meanwhile another process asks for a PING every half a millisecond: its longest
wait is how long the scheduler keeps the other clients waiting. What a scheduler costs that has nothing to do, and one with a
million jobs that are not due, is measured as well, and how late single jobs are promoted.

With `--race` two of ours promote jobs that fall due over some seconds; the one that leads is stopped (SIGSTOP) in the middle,
past its lease, and continued when the other one has taken over. Fails when a job is lost or promoted twice.
"""

import argparse
import multiprocessing
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import processes
import redis
from contenders import plain  # noqa: F401  the jobs name its function
from killing import ground, wait_for
from server import about

from jobs import keys
from jobs.queue.job import JsonJob

QUEUE = "due"
LIMIT_S = 120.0
FILL_S = 0.0001
"""How long it takes at most to write a job; they are due after that."""
IDLE_S = 10.0
QUIET_S = 0.5
RACE_S = 12.0
PING_S = 0.0005
RQ_SCHEDULER = f"""
import os, redis
from rq.scheduler import RQScheduler
client = redis.Redis.from_url(os.environ["REDIS_URL"])
RQScheduler(["{QUEUE}"], connection=client, serializer="rq.serializers.JSONSerializer").work()
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A scheduler: what is started, where its jobs wait, when it has begun, and the share of the jobs that it gets."""

    title: str
    command: tuple[str, ...]
    place: str
    lock: str
    share: float = 1.0


OURS = ("-m", "scheduler")
ROWS = (
    Row("turnstile, rq-scheduler's set", OURS, keys.SCHEDULED_JOBS, keys.SCHEDULER_LOCK),
    Row("turnstile, RQ's registry", OURS, keys.scheduled(QUEUE), keys.SCHEDULER_LOCK),
    Row(
        "rq-scheduler 0.14, rqscheduler -i 1",
        ("-m", "rq_scheduler.scripts.rqscheduler", "-i", "1", "-q", "rq.Queue", "-j", "jobs.queue.job.JsonJob"),
        keys.SCHEDULED_JOBS,
        keys.SCHEDULER_LOCK,
        share=0.03,
    ),
    Row("RQ 2.12's RQScheduler", ("-c", RQ_SCHEDULER), keys.scheduled(QUEUE), f"rq:scheduler-lock:{QUEUE}", share=0.05),
)


@dataclass(frozen=True, slots=True)
class Promoted:
    """One run: from the due instant to the last job, jobs a second from the first one seen on, and the longest PING before the
    due instant and after it."""

    seconds: float
    rate: float
    quiet_s: float
    stall_s: float


def hold(client: redis.Redis, due: Iterable[tuple[str, float]], place: str) -> None:
    """Jobs as a client of RQ with a JSON serializer makes them."""
    made = JsonJob.create("contenders.plain.add", (3, 4), connection=client, origin=QUEUE, status="scheduled")
    fields = made.to_dict(include_meta=True)
    client.sadd(keys.QUEUES, keys.queue(QUEUE))
    pipeline = client.pipeline(transaction=False)
    for number, (job_id, due_at) in enumerate(due):
        pipeline.hset(keys.job(job_id), mapping=fields)
        pipeline.zadd(place, {job_id: due_at})
        if number % 1_000 == 999:
            pipeline.execute()
    pipeline.execute()


def _ping(url: str, pipe: Connection) -> None:
    client, longest = redis.Redis.from_url(url), 0.0
    while not pipe.poll():
        began = time.perf_counter()
        client.ping()
        longest = max(longest, time.perf_counter() - began)
        time.sleep(PING_S)
    pipe.send(longest)


def pinging(url: str) -> Callable[[], float]:
    """Starts the other client; what is returned ends it, and says its longest wait."""
    pipe, other = multiprocessing.Pipe()
    multiprocessing.Process(target=_ping, args=(url, other), daemon=True).start()

    def longest_s() -> float:
        pipe.send("")
        longest: float = pipe.recv()
        return longest

    return longest_s


def promote(row: Row, jobs: int) -> Promoted:
    """One scheduler, once."""
    with ground(aof_always=False, TURNSTILE_LOG_LEVEL="WARNING") as base:
        client, number = base.server.client, round(jobs * row.share)
        base.start(*row.command, RQ_REDIS_URL=base.server.url)
        wait_for(lambda: client.exists(row.lock), LIMIT_S, f"{row.title} begins")
        due_at = time.time() + 1 + QUIET_S + number * FILL_S
        hold(client, ((f"job-{index:032d}", due_at) for index in range(number)), row.place)
        if time.time() > due_at or client.llen(keys.queue(QUEUE)):
            sys.exit("the jobs were due before they were written")
        longest_s = pinging(base.server.url)
        time.sleep(QUIET_S)  # not for a condition: what the machine itself makes a client wait
        quiet_s = longest_s()
        longest_s = pinging(base.server.url)
        seen: list[tuple[float, int]] = []

        def is_done() -> bool:
            length = client.llen(keys.queue(QUEUE))
            if length:
                seen.append((time.time(), length))
            return bool(length == number and not client.zcount(row.place, "-inf", due_at))

        wait_for(is_done, LIMIT_S, f"{row.title} promotes")
        (first_at, first), (last_at, _all) = seen[0], seen[-1]
        rate = (number - first) / (last_at - first_at) if number > first else number / (last_at - due_at)
        return Promoted(last_at - due_at, rate, quiet_s, longest_s())


def compare(rounds: int, jobs: int) -> None:
    """All in turn, and the table."""
    runs: dict[Row, list[Promoted]] = {row: [] for row in ROWS}
    for _ in range(rounds):
        for row in ROWS:
            runs[row].append(promote(row, jobs))
    rates = {row: statistics.median(run.rate for run in found) for row, found in runs.items()}
    print(f"{'':38}{'jobs':>8}{'s':>8}{f's for {jobs:,}':>16}{'jobs/s  min':>13}{'median':>9}{'max':>9}{'ratio':>8}", end="")
    print(f"{'quiet ms':>10}{'stall ms':>10}")
    for row, found in runs.items():
        of_all = [run.rate for run in found]
        seconds = statistics.median(run.seconds for run in found)
        needed = seconds if row.share == 1 else jobs / rates[row]
        print(
            f"{row.title:38}{round(jobs * row.share):8,}{seconds:8.2f}{needed:16.2f}{min(of_all):13,.0f}{rates[row]:9,.0f}"
            f"{max(of_all):9,.0f}{rates[ROWS[0]] / rates[row]:8.1f}{statistics.median(run.quiet_s for run in found) * 1e3:10.1f}"
            f"{statistics.median(run.stall_s for run in found) * 1e3:10.1f}"
        )
    print("\ns: from the due instant to the last job on its queue; ratio: how many times faster the first row is.")
    print("stall, quiet: the longest PING while jobs were promoted, and half a second before, when nothing was (medians).")


def idle(waiting: int) -> None:
    """What a leader costs that has nothing to promote, and how late single jobs are."""
    with ground(aof_always=False, TURNSTILE_LOG_LEVEL="WARNING") as base:
        client = base.server.client
        base.scheduler()
        if waiting:
            far = time.time() + 86_400
            for first in range(0, waiting, 10_000):
                part = range(first, first + 10_000)
                client.zadd(keys.SCHEDULED_JOBS, {f"job-{index:032d}": far + index / 1000 for index in part})
        time.sleep(2)  # not for a condition: what the start costs is not to be measured
        pid = base.started[0].pid

        def cost() -> tuple[float, float, float, float]:
            info = client.info("everything")
            calls = sum(command["calls"] for name, command in info.items() if name.startswith("cmdstat_"))
            return processes.cpu_s([pid]), info["used_cpu_user"] + info["used_cpu_sys"], info["total_reads_processed"], calls

        before = cost()
        time.sleep(IDLE_S)
        own, server, trips, commands = ((after - was) / IDLE_S for was, after in zip(before, cost(), strict=True))
        print(
            f"{waiting:9,} jobs wait: scheduler {own:.2%} of a core, server {server:.2%}, {trips:.0f} round trips/s, "
            f"{commands:.0f} commands/s"
        )
        if not waiting:
            for what, delay_s in (("known 0.2 s before", 0.2), ("sent when due", 0.0)):
                late = lateness(client, delay_s)
                print(f"{len(late)} single jobs {what}: p50 {late[len(late) // 2]:.1f} ms late, longest {late[-1]:.1f} ms")


def lateness(client: redis.Redis, delay_s: float) -> list[float]:
    """How late (ms) jobs arrive that are sent one by one, in order of length; the wait blocks, it does not poll."""
    late, chance = [], random.Random(1)
    for number in range(50):
        due_at = time.time() + delay_s
        job_id = f"single-{delay_s}-{number}"
        hold(client, [(job_id, due_at)], keys.SCHEDULED_JOBS)
        client.blpop([keys.queue(QUEUE)], timeout=10)
        late.append((time.time() - due_at) * 1e3)
        client.delete(keys.job(job_id))  # a job that is nowhere would be brought back
        time.sleep(chance.random() / 20)
    return sorted(late)


def race(jobs: int) -> bool:
    """Two of ours; whether every job was promoted once."""
    with ground(aof_always=False, TURNSTILE_LOG_LEVEL="WARNING") as base:
        client = base.server.client
        base.start(*OURS)
        base.start(*OURS)
        wait_for(lambda: client.exists(keys.SCHEDULER_LOCK), LIMIT_S, "one leads")
        start = time.time() + 1 + jobs * FILL_S
        ids = [f"j{index}" for index in range(jobs)]
        hold(client, ((job_id, start + RACE_S * index / jobs) for index, job_id in enumerate(ids)), keys.SCHEDULED_JOBS)
        wait_for(lambda: client.llen(keys.queue(QUEUE)) > jobs // 4, LIMIT_S, "a quarter is promoted")
        pid, epoch = client.hmget(keys.SCHEDULER, "pid", "epoch")
        frozen = next(process for process in base.started if str(process.pid).encode() == pid)
        frozen.send_signal(signal.SIGSTOP)
        left = client.zcount(keys.SCHEDULED_JOBS, start, start + RACE_S)
        wait_for(lambda: client.hget(keys.SCHEDULER, "epoch") != epoch, LIMIT_S, "the other one leads")
        frozen.send_signal(signal.SIGCONT)
        wait_for(lambda: not client.zcount(keys.SCHEDULED_JOBS, start, start + RACE_S), LIMIT_S, "all are promoted")
        promoted = client.lrange(keys.queue(QUEUE), 0, -1)
        lost, doubled = len(ids) - len(set(promoted)), len(promoted) - len(set(promoted))
        print(f"{jobs:,} jobs, {left:,} of them left when the leader froze: lost {lost}, doubled {doubled}", flush=True)
        return not lost and not doubled


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--race", action="store_true")
    given = parser.parse_args()
    print(about("a server for each run, no AOF"))
    if given.race:
        sys.exit(not all(race(given.jobs) for _ in range(given.rounds)))
    compare(given.rounds, given.jobs)
    idle(0)
    idle(1_000_000)


if __name__ == "__main__":
    main()
