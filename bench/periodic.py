"""Kills the schedulers while periodic jobs fire: `python bench/periodic.py [--kills 50] [--stops 20] [--fires 1000] [--jobs 5]`.

Two scheduler processes live by a faster clock (bench/periodic_clock.py), during a night in which clocks go back. At random
instants one is killed (SIGKILL) or stopped (SIGTERM), most often the one that leads, and started again. Then every fire time of
the table from the first to the last must have been enqueued once, and nothing else.

Fails when a fire is missing, doubled, too early, or one that the table does not know.
"""

import itertools
import random
import signal
import statistics
import sys
import time
from collections import Counter
from datetime import datetime

from killing import Ground, Process, ground, options, wait_for
from periodic_clock import BASE, QUEUE, TABLE, fast
from server import about

from jobs import keys, log
from jobs.queue.periodic import Periodic, definition_id
from jobs.settings import Settings
from scheduler.periodic import Registration

SPEED = 30.0
PROCESSES = 2
LIMIT_S = 60.0
TO_LEADERS = 0.75
"""The share of the signals that go to the one that leads."""
WAIT_S = 1.5
"""At most this long after one leads comes the next signal."""


class Clock:
    """The faster clock, and the schedulers that live by it."""

    def __init__(self, base: Ground, table: tuple[Periodic, ...], speed: float) -> None:
        self.client = base.server.client
        self.table = table
        self.speed = speed
        self._base = base
        self._anchor = self._real()
        Registration(self.client, table).tick(BASE)
        self.running = [self._start() for _ in range(PROCESSES)]

    def now(self) -> float:
        """The instant that it is."""
        return fast(self._real(), self._anchor, self.speed)

    def leader(self) -> Process | None:
        """The process that leads, as it says."""
        if not self.client.exists(keys.SCHEDULER_LOCK):
            return None
        pid = self.client.hget(keys.SCHEDULER, "pid")
        return next((process for process in self.running if str(process.pid).encode() == pid and process.poll() is None), None)

    def end(self, victim: Process, way: signal.Signals) -> None:
        """Sends the signal; another process takes its place."""
        victim.send_signal(way)
        victim.wait()
        self.running[self.running.index(victim)] = self._start()

    def next_fire(self, periodic: Periodic) -> float:
        """As its record has it."""
        return float(self.client.hget(keys.periodic(periodic.name), "next_fire_at") or 0.0)

    def _start(self) -> Process:
        return self._base.start("bench/periodic_clock.py", str(len(self.table)), repr(self._anchor), repr(self.speed))

    def _real(self) -> float:
        seconds, micros = self.client.time()
        return float(seconds + micros / 1e6)


def torment(clock: Clock, ways: list[signal.Signals], chance: random.Random) -> int:
    """Sends the signals; returns how many met the one that led."""
    led = 0
    for way in ways:
        wait_for(clock.leader, LIMIT_S, "one leads")
        time.sleep(chance.uniform(0.0, WAIT_S))  # not for a condition: the instant is what is random
        leader = clock.leader()
        victim = leader if leader and chance.random() < TO_LEADERS else chance.choice(clock.running)
        led += victim is leader
        clock.end(victim, way)
    return led


def verdict(clock: Clock) -> bool:
    """Compares what was enqueued with what was to be; returns whether they are the same."""
    expected = {
        f"{definition_id(periodic.name)}-{fire_at:.0f}": periodic.due_at(fire_at)
        for periodic in clock.table
        for fire_at in itertools.takewhile(clock.next_fire(periodic).__gt__, periodic.fires(BASE))
    }
    enqueued = Counter(job_id.decode() for job_id in clock.client.lrange(keys.queue(QUEUE), 0, -1))
    missing, strange = expected.keys() - enqueued.keys(), enqueued.keys() - expected.keys()
    doubled = [job_id for job_id, number in enqueued.items() if number > 1]
    late_s = []
    for job_id in enqueued.keys() & expected.keys():
        at = datetime.fromisoformat(clock.client.hget(keys.job(job_id), "enqueued_at").decode()).timestamp()
        late_s.append((at - expected[job_id]) / clock.speed)
    quantiles = statistics.quantiles(late_s, n=100)
    records = [clock.client.hmget(keys.periodic(periodic.name), "missed", "skipped") for periodic in clock.table]
    counted = sum(int(number or 0) for record in records for number in record)
    print(
        f"{len(expected):,} fires of {len(clock.table)} jobs: {len(missing)} missed, {len(doubled)} doubled, {len(strange)} wrong"
    )
    print(f"late by, in real time: p50 {quantiles[49]:.3f} s, p90 {quantiles[89]:.3f} s, longest {max(late_s):.3f} s")
    for what, ids in (("missed", missing), ("doubled", doubled), ("wrong", strange)):
        if ids:
            print(f"{what}: {sorted(ids)[:20]}")
    if counted:
        print(f"counted as missed or skipped: {counted}")
    return not (missing or doubled or strange or counted or min(late_s) < -0.01)


def main() -> int:
    """Exit code 1 when a fire was lost or doubled."""
    parser = options(__doc__, kills=50)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--fires", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=len(TABLE))
    parser.add_argument("--speed", type=float, default=SPEED)
    given = parser.parse_args()
    log.configure(Settings(log_level="WARNING"), process="bench")
    chance = random.Random(given.seed)
    ways = [signal.SIGKILL] * given.kills + [signal.SIGTERM] * given.stops
    chance.shuffle(ways)
    with ground(aof_always=given.aof_always, TURNSTILE_LOG_LEVEL="WARNING") as base:
        print(about(base.server.about()), flush=True)
        began = time.monotonic()
        clock = Clock(base, TABLE[: given.jobs], given.speed)
        led = torment(clock, ways, chance)
        wait_for(lambda: base.server.client.llen(keys.queue(QUEUE)) >= given.fires, LIMIT_S * 10, f"{given.fires} fires")
        until = clock.now()
        wait_for(lambda: min(map(clock.next_fire, clock.table)) > until, LIMIT_S, "what is due is fired")
        for process in clock.running:
            process.terminate()
        for process in clock.running:
            process.wait()
        epoch = base.server.client.hget(keys.SCHEDULER, "epoch") or b"?"
        print(
            f"{given.kills} SIGKILLs, {given.stops} SIGTERMs in {time.monotonic() - began:.0f} s, {led} to the one that led;",
            end=" ",
        )
        print(f"epoch {epoch.decode()}, {given.speed:g} times as fast, {(clock.now() - BASE) / 3_600:.1f} h")
        return int(not verdict(clock))


if __name__ == "__main__":
    sys.exit(main())
