"""How soon another scheduler leads when one dies or is stopped: `python bench/failover.py [--kills 20] [--seed 1]`.

Three schedulers run. The one that leads is killed (SIGKILL), later as many are stopped (SIGTERM), each at a random instant of its
lease, and started again as a platform does it. Measured is the time from the signal until a job that fell due with it is on its
queue: until another one not only has the lease but does its duties.

Fails above the bars, when the epoch did not change by one, or when a job was promoted more or less often than once.
"""

import random
import signal
import statistics
import sys
import time

from killing import Ground, Process, ground, options, wait_for
from server import about

from jobs import keys

QUEUE = "due"
WAYS = {signal.SIGKILL: 5.0, signal.SIGTERM: 1.0}
"""And the bar of each: the longest time (s)."""
LIMIT_S = 30.0
SETTLE_S = 2.0
"""Longer than two heartbeats, so that the signal meets a renewed lease at any age of it."""


def leader(base: Ground, running: list[Process]) -> Process | None:
    """The one that leads, as it says of itself."""
    pid = base.server.client.hget(keys.SCHEDULER, "pid")
    return next((process for process in running if str(process.pid).encode() == pid), None)


def epoch(base: Ground) -> int:
    """Its number."""
    return int(base.server.client.hget(keys.SCHEDULER, "epoch") or 0)


def due_now(base: Ground, job_id: str) -> None:
    """A job that should be on its queue by now."""
    with base.server.client.pipeline(transaction=True) as pipeline:
        pipeline.hset(keys.job(job_id), mapping={"status": "scheduled", "origin": QUEUE, "data": "[]"})
        pipeline.zadd(keys.SCHEDULED_JOBS, {job_id: time.time()})
        pipeline.execute()


def fail_over(base: Ground, running: list[Process], way: signal.Signals, job_id: str, chance: random.Random) -> float:
    """Ends the one that leads; returns how long a job that is due waits for another."""
    wait_for(lambda: leader(base, running), LIMIT_S, "one leads")
    time.sleep(SETTLE_S + chance.random())  # not for a condition: the instant of the signal is what is random
    old, before = leader(base, running), epoch(base)
    if old is None:
        raise TimeoutError("the leader changed by itself")
    waiting = base.server.client.llen(keys.queue(QUEUE))
    old.send_signal(way)
    since = time.perf_counter()
    if way == signal.SIGKILL:
        old.wait()
        due_now(base, job_id)
    else:  # as long as it leads it may do its duty: what falls due once the lease is free is another one's
        wait_for(lambda: old.poll() is not None or not base.server.client.exists(keys.SCHEDULER_LOCK), LIMIT_S, "it stops")
        due_now(base, job_id)
    wait_for(lambda: base.server.client.llen(keys.queue(QUEUE)) > waiting, LIMIT_S, f"{job_id} is promoted")
    took = time.perf_counter() - since
    wait_for(lambda: leader(base, running) not in (None, old), LIMIT_S, "another one says that it leads")
    if epoch(base) != before + 1:
        raise TimeoutError(f"epoch {before} was followed by {epoch(base)}")
    old.wait()
    running.remove(old)
    running.append(base.start("-m", "scheduler"))
    return took


def main() -> int:
    """Exit code 1 when a bar is missed."""
    given = options(__doc__, kills=20).parse_args()
    chance = random.Random(given.seed)
    missed = False
    with ground(aof_always=given.aof_always, TURNSTILE_LOG_LEVEL="WARNING") as base:
        print(about(base.server.about()), flush=True)
        running = [base.start("-m", "scheduler") for _ in range(3)]
        ids = []
        for way, bar_s in WAYS.items():
            waits = []
            for number in range(given.kills):
                ids.append(f"{way.name.lower()}-{number}")
                waits.append(fail_over(base, running, way, ids[-1], chance))
            missed = missed or max(waits) > bar_s
            shown = f"p50 {statistics.median(waits):.2f} s, max {max(waits):.2f} s, bar {bar_s:g} s"
            print(f"{way.name}: {len(waits)} times, {shown}", flush=True)
        queued = [job_id.decode() for job_id in base.server.client.lrange(keys.queue(QUEUE), 0, -1)]
    missed = missed or sorted(queued) != sorted(ids)
    print("every job promoted once" if sorted(queued) == sorted(ids) else f"promoted: {queued}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
