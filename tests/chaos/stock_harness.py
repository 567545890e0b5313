"""What plain RQ and rq-scheduler lose under the same hands: `python tests/chaos/stock_harness.py [--jobs N] [--kills N]`.

Three workers, one scheduler and Redis (every write on disk before its answer), all killed and stopped by seed while a client
sends jobs. Each job leaves a line in a log. The client sends again, with the same id, until it is answered. The stock stack: `rq
worker` on two queues twice and on one, `rqscheduler -i 1`, `Retry(max=3)`, `unique=True`, `enqueue_in` and `schedule` of
rq-scheduler. Ours: in the same places, under the same draws. What has died is started again at once. When all is over the
system is left alone, RQ long enough that its leases (90 s) have run out; then its workers are started once more, since a
worker's start is when RQ looks after what was abandoned (else every 600 s).

An effect that was had twice is no fault of a queue if its worker was killed between the effect and the ack: nobody can tell.
Two runs of one job at the same time are one, and so is a job that ran and is called failed, or waits for ever.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import by_hand
import redis
import stock_jobs
import stock_ours
from processes import Processes, wait_for
from rq.exceptions import DuplicateJobError
from servers import Server
from stock_place import GRACE_S, QUEUES, SCHEDULER, WAYS, WORKERS, Place

from jobs import keys

JOB_S = (0.005, 0.05)
DELAYED_SHARE, DELAY_S = 0.2, (1, 5)
RATE_PER_S = 30.0
REST_S = {"stock": 180.0, "ours": 20.0}
DRAIN_S = 60.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of all jobs."""

    sent: int
    lost: int
    stuck: Counter[str]
    ran: Counter[str]
    twice: int
    at_once: int
    fires: int
    missed: int
    doubled: int
    seconds: float

    def rows(self) -> dict[str, object]:
        """Kind of failure -> how many."""
        return {
            "jobs answered": self.sent,
            "lost: never had their effect": self.lost,
            "of these, as Redis has them": dict(self.stuck) or "-",
            "had their effect, and are not called finished": sum(n for status, n in self.ran.items() if status != "finished"),
            "of these, as Redis has them ": {status: n for status, n in self.ran.items() if status != "finished"} or "-",
            "had their effect more than once": self.twice,
            "of these, two runs at the same time": self.at_once,
            "periodic fires due": self.fires,
            "fires missed": self.missed,
            "fires doubled": self.doubled,
            "seconds": round(self.seconds),
        }


FORBIDDEN = ("lost: never had their effect", "of these, two runs at the same time", "fires missed", "fires doubled")
"""What ours must not do."""


def torment(place: Place, n_jobs: int, kills: int, seed: int) -> list[str]:
    """Sends the jobs and strikes between them; the same draws for both stacks. Returns the names."""
    chance, send = random.Random(seed), place.sender()
    strikes = {n_jobs * (number + 1) // (kills + 1) for number in range(kills)}
    names = [f"n{number}" for number in range(n_jobs)]
    due = time.monotonic()
    for number, name in enumerate(names):
        delayed = chance.random() < DELAYED_SHARE
        job = (name, chance.choice(QUEUES), chance.uniform(*JOB_S), chance.randint(*DELAY_S) if delayed else 0)
        while True:
            try:
                send(*job)
                break
            except DuplicateJobError:
                break
            except redis.exceptions.ConnectionError:
                time.sleep(0.05)
        [way] = chance.choices(list(WAYS), list(WAYS.values()))
        worker = chance.choice(WORKERS)
        if number in strikes:
            place.strike(way, worker)
        place.tend()
        due = max(due + 1 / RATE_PER_S, time.monotonic() - 1)
        time.sleep(max(0.0, due - time.monotonic()))
    return names


def rest(place: Place) -> None:
    """Nothing is done to it any more; then stock workers look after what was abandoned, as they do when they start."""
    _drain(place, DRAIN_S)
    time.sleep(REST_S[place.stack])
    if place.stack == "stock":
        for name in WORKERS:
            place.strike("SIGTERM worker", name)
        time.sleep(GRACE_S)
        _drain(place, DRAIN_S)
        time.sleep(GRACE_S)


def _drain(place: Place, limit_s: float) -> None:
    """Until nothing waits any more; what still does after the limit is stuck."""
    deadline = time.monotonic() + limit_s
    while place.waiting() and time.monotonic() < deadline:
        place.tend()
        time.sleep(POLL_S)


def look(place: Place, names: Sequence[str], log: Path, until: float, seconds: float) -> Outcome:
    """Compares the log of effects with Redis."""
    begun: defaultdict[str, list[float]] = defaultdict(list)
    done: defaultdict[str, list[float]] = defaultdict(list)
    ticks: list[tuple[float, str]] = []
    for what, name, at in (line.split() for line in log.read_text().splitlines()):
        if what == "tick":
            ticks.append((float(at), name))
        else:
            (begun if what == "start" else done)[name].append(float(at))
    statuses = {}
    for name in names:
        status = (place.client.hget(keys.job(name), "status") or b"gone").decode()
        listed = status == "queued" and not any(place.client.lpos(keys.queue(queue), name) is not None for queue in QUEUES)
        statuses[name] = "queued, and in no list" if listed else status
    lost = [name for name in names if not done[name]]
    twice = [name for name in names if len(done[name]) > 1]
    at_once = [
        name
        for name in twice
        if any(begin < end for begin, end in zip(sorted(begun[name])[1:], sorted(done[name]), strict=False))
    ]
    n_due = int((until - min(ticks)[0]) // stock_ours.EVERY_S) + 1
    in_time = sorted(tick for tick in ticks if tick[0] <= until)
    if place.stack == "stock":  # all its runs have one id: only their number can be compared
        missed, doubled = n_due - len(in_time), len(in_time) - n_due
    else:
        doubled = len(ticks) - len({fire for _at, fire in ticks})
        times = sorted({int(fire.rpartition("-")[2]) for _at, fire in ticks})
        missed = (times[-1] - times[0]) // stock_ours.EVERY_S + 1 - len(times)
    return Outcome(
        len(names),
        len(lost),
        Counter(statuses[name] for name in lost),
        Counter(statuses[name] for name in names if done[name]),
        len(twice),
        len(at_once),
        n_due,
        max(0, missed),
        max(0, doubled),
        seconds,
    )


def run(stack: str, n_jobs: int, kills: int, seed: int) -> Outcome:
    """One stack from its start to its end."""
    server, folder = Server(), Path(tempfile.mkdtemp(prefix="turnstile-stock-"))
    log = folder / "effects"
    log.touch()
    environ = {**os.environ, "PYTHONPATH": f"{by_hand.PYTHONPATH}", stock_jobs.LOG: str(log)}
    if stack == "ours":
        environ |= {
            "REDIS_URL": server.url,
            "RQ_CONFIG": "stock_config",
            "TURNSTILE_CPU_CHILDREN": "1",
            "TURNSTILE_LOG_LEVEL": "ERROR",
        }
    server.start()
    os.environ["REDIS_URL"] = server.url
    processes = Processes(folder, environ)
    place, began = Place(stack, server, processes), time.monotonic()
    try:
        place.start(*WORKERS, SCHEDULER)
        wait_for(lambda: place.client.scard(keys.WORKERS) == len(WORKERS), DRAIN_S, "all workers are registered")
        place.schedule()
        wait_for(lambda: "tick" in log.read_text(), DRAIN_S, "the periodic job has fired")
        names = torment(place, n_jobs, kills, seed)
        rest(place)
        return look(place, names, log, time.time() - stock_ours.EVERY_S, time.monotonic() - began)
    finally:
        processes.end()
        server.remove()
        shutil.rmtree(folder)


def main() -> int:
    """Runs both and prints a row of a table for each kind of failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=3_000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stack", choices=tuple(REST_S))
    given = parser.parse_args()
    stacks = [given.stack] if given.stack else list(REST_S)
    found = {stack: run(stack, given.jobs, given.kills, given.seed).rows() for stack in stacks}
    print(
        f"| {given.jobs} jobs, {given.kills} faults, seed {given.seed} | {' | '.join(stacks)} |\n| --- |{' ---: |' * len(stacks)}"
    )
    for what in found[stacks[0]]:
        print(f"| {what} | {' | '.join(str(found[stack][what]) for stack in stacks)} |")
    return int(any(found["ours"][what] for what in FORBIDDEN) if "ours" in found else 0)


if __name__ == "__main__":
    sys.exit(main())
