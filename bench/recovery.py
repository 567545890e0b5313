"""How soon a job of a killed worker runs again: `python bench/recovery.py [--kills 50] [--seed 1]`.

Two CpuWorkers and two IoWorkers run long jobs that note when and where they start; beside them short jobs keep both cores busy. A
worker that runs one is killed (SIGKILL to the parent, to the child under the job, or to both at once) at a random instant, and
started again when its jobs run elsewhere. Measured is the time from the kill until all its jobs have started again.

Fails when a job is lost, ends twice, still runs where it was when it starts again, or is taken from a living worker; and above
the bars.
"""

import contextlib
import os
import random
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import processes
from killing import Ground, Process, ground, options, wait_for
from observed import burn, stay, stay_async
from server import about

KINDS = {"CpuWorker": (stay, "cpu", 2), "IoWorker": (stay_async, "io", 4)}
"""Task, queue, and how many of the long jobs run."""
WAYS = {"CpuWorker": ("parent", "child", "both"), "IoWorker": ("process",)}
LOAD_WORKERS, WAITING = 2, 100
AGAIN_S, START_S = 30.0, 60.0
BAR_P50_S, BAR_MAX_S = 3.5, 5.0


@dataclass
class Start:
    """One start of a long job."""

    pid: int
    at: float


@dataclass
class Bench:
    """One run."""

    base: Ground
    chance: random.Random
    workers: dict[str, list[Process]] = field(default_factory=lambda: defaultdict(list))
    open: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The long jobs that have not been told to end, by kind of worker."""
    sent: list[str] = field(default_factory=list)
    hit: set[str] = field(default_factory=set)
    fed: int = 0
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Everything runs, and every long job has started."""
        self.base.scheduler()
        for _ in range(LOAD_WORKERS):
            self.base.worker("CpuWorker", "load", TURNSTILE_CPU_CHILDREN="1", TURNSTILE_LOG_LEVEL="WARNING")
        for kind, (_task, queue, n_jobs) in KINDS.items():
            for _ in range(2):
                self.workers[kind].append(self._worker(kind, queue))
            for _ in range(n_jobs):
                self._send(kind)

    def _worker(self, kind: str, queue: str) -> Process:
        return self.base.worker(kind, queue, TURNSTILE_CPU_CHILDREN="2", TURNSTILE_IO_SLOTS="10")

    def _send(self, kind: str) -> None:
        job_id = KINDS[kind][0].delay().id
        self.open[kind].append(job_id)
        self.sent.append(job_id)
        self._until(lambda: self.starts().get(job_id), "a long job starts")

    def feed(self) -> bool:
        """Keeps short jobs waiting."""
        if self.fed - self.base.ended("load") < WAITING:
            burn.enqueue_many([()] * WAITING)
            self.fed += WAITING
        return True

    def starts(self) -> dict[str, list[Start]]:
        """Job id -> its starts so far."""
        found = defaultdict(list)
        with contextlib.suppress(FileNotFoundError):
            for line in (self.base.folder / "starts").read_text().splitlines():
                job_id, pid, at = line.split()
                found[job_id].append(Start(int(pid), float(at)))
        return found

    def _until(self, condition: Callable[[], object], what: str) -> None:
        wait_for(lambda: self.feed() and condition(), AGAIN_S, what)

    def kill(self, kind: str, way: str) -> None:
        """Kills a worker that runs a long job, waits until its jobs run again, and starts it anew."""
        pause_until = time.monotonic() + self.chance.random()
        self._until(lambda: time.monotonic() > pause_until, "a random instant of the heartbeat")
        before = self.starts()
        at = {job_id: before[job_id][-1].pid for job_id in self.open[kind]}
        job_id = self.chance.choice(self.open[kind])
        victim = next(worker for worker in self.workers[kind] if os.getsid(at[job_id]) == worker.pid)
        if way == "child":
            hit = [other for other in at if at[other] == at[job_id]]
        else:
            hit = [other for other in at if os.getsid(at[other]) == victim.pid]
        killed_at = time.monotonic()
        if way == "child":
            os.kill(at[job_id], signal.SIGKILL)
        elif way == "both":
            processes.send([victim], signal.SIGKILL)
        else:
            victim.send_signal(signal.SIGKILL)
        for other in hit:
            self._until(lambda other=other: len(self.starts()[other]) > len(before[other]), f"{other} runs again")
            if processes.rss_bytes(at[other]):  # a zombie has none
                self.wrong.append(f"{other} still ran in process {at[other]} when it started again")
        after = self.starts()
        self.waits[f"{kind} {way}"].append(max(after[other][len(before[other])].at for other in hit) - killed_at)
        if way != "child":
            self.workers[kind].remove(victim)
            self.workers[kind].append(self._worker(kind, KINDS[kind][1]))
        elif victim.poll() is not None:
            self.wrong.append(f"{kind} {victim.pid} ended with its child")
        self.hit.update(hit)
        for other in hit:
            self._let_go(kind, other)
            self._send(kind)

    def _let_go(self, kind: str, job_id: str) -> None:
        self.open[kind].remove(job_id)
        (self.base.folder / f"go-{job_id}").touch()

    def finish(self) -> None:
        """All jobs end; what is not as it must be is noted."""
        for kind in KINDS:
            for job_id in list(self.open[kind]):
                self._let_go(kind, job_id)
        queues = [queue for _task, queue, _n in KINDS.values()]
        wait_for(lambda: self.base.ended(*queues) >= len(self.sent), AGAIN_S, "the long jobs end")
        wait_for(lambda: self.base.ended("load") >= self.fed, AGAIN_S, "the short jobs end")
        runs = {job_id: len(found) for job_id, found in self.starts().items()}
        false = [job_id for job_id in self.sent if runs[job_id] != 1 + (job_id in self.hit)]
        checks = {
            "jobs taken from a living worker": len(false),
            "reclaims beyond the killed": self.base.total("reclaimed", "load", *queues) - len(self.hit),
            "long jobs that ended more or less than once": len(self.base.doubled(self.sent)),
            "jobs finished beyond those sent": self.base.total("finished", "load", *queues) - len(self.sent) - self.fed,
            "dead letters": self.base.total("dead", "load", *queues),
        }
        self.wrong += [f"{what}: {number}" for what, number in checks.items() if number]

    def report(self, *, bars: bool) -> bool:
        """Prints the table; returns whether all is well, and with `bars` soon enough."""
        print(f"{'s from the kill until its jobs run again':44}{'kills':>6}{'min':>8}{'p50':>8}{'max':>8}")
        rows = {**self.waits, "all": [wait for waits in self.waits.values() for wait in waits]}
        for name, waits in rows.items():
            print(f"{name:44}{len(waits):6}{min(waits):8.2f}{statistics.median(waits):8.2f}{max(waits):8.2f}")
        print(f"{len(self.sent)} long jobs, {self.fed:,} short jobs beside them")
        if bars and (statistics.median(rows["all"]) > BAR_P50_S or max(rows["all"]) > BAR_MAX_S):
            self.wrong.append(f"slower than p50 {BAR_P50_S} s and max {BAR_MAX_S} s")
        print("\n".join(self.wrong) or "nothing lost, nothing twice, nothing taken from a living worker")
        return not self.wrong


def main() -> None:
    """Reads the options and runs."""
    parser = options(__doc__, 50)
    parser.add_argument("--no-bars", action="store_true", help="however long it takes")
    given = parser.parse_args()
    with ground(aof_always=given.aof_always) as base:
        print(about(base.server.about()))
        bench = Bench(base, random.Random(given.seed))
        bench.start()
        plan = [(kind, way) for kind, ways in WAYS.items() for way in ways]
        for number in range(given.kills):
            bench.kill(*plan[number % len(plan)])
        bench.finish()
        sys.exit(not bench.report(bars=not given.no_bars))


if __name__ == "__main__":
    main()
