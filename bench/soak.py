"""Whether a day's worth of jobs leaves anything behind: `python bench/soak.py [--minutes 5] [--workers io,cpu] [--per-s 2000]`.

One worker after the other under a constant load of mixed jobs (on a thread, on the loop, with results, failing once, failing
for good) with the scheduler beside it. Sampled: resident memory of every process, Redis' memory, its keys by pattern. The first
part is left out: caches fill, results and statistics reach their expiry, dead letters their limit. Then a line is laid through
each series: its slope for 100,000 jobs and what that makes of a day at this rate, each with its standard error; a slope within
two of these is none. Before, both kinds of worker are weighed idle.
"""

import argparse
import math
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import processes
from peers import ENVIRON
from server import Server, about

from jobs import keys

KINDS = {"io": "jobs.queue.worker.IoWorker", "cpu": "jobs.queue.worker.CpuWorker"}
MIX = {"plain": 45, "on_loop": 20, "kept": 24, "second_time": 10, "never": 1}
DEAD_LETTERS_MAX = 200
SETTLED_AFTER = 0.4
"""Of the time, but at least as long as the statistics of a minute are kept."""
SAMPLE_S = 5.0
TURN_S = 0.1
WAITING_MAX = 2_000
"""More are not enqueued: a worker that cannot keep up sets the pace."""
IDLE_START_S = 5.0
ID = re.compile(r"\b(?:[0-9A-Za-z]{20}|[0-9a-f]{12,}|\d+)\b|(?<=-)[0-9a-f]{6}$")
SHOWN_KEYS = 5
"""A pattern of fewer keys has no line of its own."""
MB = 1e6


def begin(server: Server, folder: Path, kind: str) -> "subprocess.Popen[bytes]":
    """Starts a worker."""
    environ = {**ENVIRON, "REDIS_URL": server.url, "RQ_CONFIG": "contenders.ours_mixed", "TURNSTILE_LOG_LEVEL": "ERROR"}
    command = [str(Path(sys.executable).parent / "rq"), "worker", "-w", KINDS[kind], "default"]
    return processes.start(command, environ, folder / f"{kind}.log")


def idle(server: Server, folder: Path, kind: str, seconds: float) -> None:
    """Prints what a worker takes that has nothing to do."""
    worker = begin(server, folder, kind)
    try:
        time.sleep(IDLE_START_S)
        pids = processes.pids([worker])
        before, commands, began = processes.cpu_s(pids), server.client.info("stats")["total_commands_processed"], time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        cpu_s = (processes.cpu_s(pids) - before) * 60 / passed
        commands = (server.client.info("stats")["total_commands_processed"] - commands) / passed
        sizes = " + ".join(f"{processes.rss_bytes(pid) / MB:.0f}" for pid in pids)
        print(f"{kind} idle: {sizes} MB resident, {cpu_s:.2f} processor seconds a minute, {commands:.1f} commands/s", flush=True)
    finally:
        worker.terminate()
        worker.wait()


class Soak:
    """One worker under load."""

    def __init__(self, server: Server, folder: Path, kind: str, per_s: float) -> None:
        from contenders import ours_mixed  # noqa: PLC0415  reads the environment, which main has set

        server.empty()
        self._server, self._per_s = server, per_s
        self._tasks = {name: getattr(ours_mixed, name) for name in MIX}
        environ = {**ENVIRON, "REDIS_URL": server.url, "TURNSTILE_DEAD_LETTERS_MAX": str(DEAD_LETTERS_MAX)}
        environ["TURNSTILE_LOG_LEVEL"] = "ERROR"
        self.scheduler = processes.start([sys.executable, "-m", "scheduler"], environ, folder / "scheduler.log")
        self.worker = begin(server, folder, kind)
        self._folder, self._sent = folder, 0

    def run(self, seconds: float) -> tuple[list[int], dict[str, list[float]]]:
        """Loads and samples; the jobs that had ended at each sample, and the series."""
        ended: list[int] = []
        series: dict[str, list[float]] = {}
        began = sampled_at = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            self._enqueue(now - began)
            if now >= sampled_at:
                done, sample = self._sample()
                sampled_at = now + SAMPLE_S
                if now > began + max(seconds * SETTLED_AFTER, min(seconds / 2, 70)):
                    for name in sample.keys() - series.keys():
                        series[name] = [0.0] * len(ended)
                    ended.append(done)
                    for name in series:
                        series[name].append(sample.get(name, 0.0))
            if self.worker.poll() is not None or self.scheduler.poll() is not None:
                sys.exit("a process has ended:\n" + "\n".join(path.read_text()[-2000:] for path in self._folder.glob("*.log")))
            time.sleep(TURN_S)
        return ended, series

    def _enqueue(self, passed_s: float) -> None:
        due = round(self._per_s * passed_s) - self._sent
        waiting = self._server.client.llen(keys.queue("default"))
        due_now = min(due, WAITING_MAX - waiting)
        self._sent += max(0, due)  # what was not enqueued is not made up for
        kinds = random.choices(tuple(MIX), tuple(MIX.values()), k=max(0, due_now))
        for name, count in Counter(kinds).items():
            self._tasks[name].enqueue_many([(number,) for number in range(count)])

    def _sample(self) -> tuple[int, dict[str, float]]:
        totals = self._server.client.hgetall(keys.totals("default"))
        done = sum(int(totals.get(field, 0)) for field in (b"finished", b"dead"))
        parent, *children = processes.pids([self.worker])
        sample = {"worker MB": processes.rss_bytes(parent) / MB}
        if children:
            sample["its children MB"] = sum(map(processes.rss_bytes, children)) / MB
        sample["scheduler MB"] = sum(map(processes.rss_bytes, processes.pids([self.scheduler]))) / MB
        sample["Redis used_memory MB"] = self._server.client.info("memory")["used_memory"] / MB
        found = Counter(ID.sub("<id>", key.decode()) for key in self._server.client.scan_iter(count=2_000))
        for pattern, count in found.items():
            sample[f"keys {pattern}"] = count
        sample["keys, all"], sample["keys, patterns"] = found.total(), len(found)
        return done, sample

    def end(self) -> None:
        """Ends both."""
        for process in (self.worker, self.scheduler):
            process.terminate()
        for process in (self.worker, self.scheduler):
            process.wait()


def show(kind: str, minutes: float, ended: list[int], series: dict[str, list[float]]) -> None:
    """Prints the slope of each series."""
    per_day = (ended[-1] - ended[0]) / (SAMPLE_S * (len(ended) - 1)) * 86_400
    print(
        f"\n{kind}: {ended[-1]:,} jobs ended in {minutes:g} minutes, the last {ended[-1] - ended[0]:,} of them measured; ", end=""
    )
    print(f"a day at this rate: {per_day:,.0f} jobs")
    print(f"{'':40}{'first':>11}{'last':>11}{'per 100,000':>13}{'+/-':>8}{'a day':>13}{'+/-':>11}")
    width = math.sqrt(sum((done - statistics.fmean(ended)) ** 2 for done in ended))
    for name, values in sorted(series.items(), key=lambda item: (item[0].startswith("keys"), item[0])):
        if name.startswith("keys") and max(values) < SHOWN_KEYS:
            continue
        line = statistics.linear_regression(ended, values)
        off = (value - line.intercept - line.slope * done for done, value in zip(ended, values, strict=True))
        error = math.sqrt(sum(distance**2 for distance in off) / (len(ended) - 2)) / width
        shown = f"{name:40}{values[0]:11,.1f}{values[-1]:11,.1f}{line.slope * 1e5:13,.2f}{error * 1e5:8,.2f}"
        print(f"{shown}{line.slope * per_day:13,.1f}{error * per_day:11,.1f}")


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for each kind")
    parser.add_argument("--workers", default="io,cpu")
    parser.add_argument("--per-s", type=float, default=2_000.0, help="jobs enqueued a second")
    parser.add_argument("--idle-s", type=float, default=30.0, help="how long idle workers are watched; 0: not at all")
    options = parser.parse_args()
    server = Server(aof_always=False)
    os.environ.update(REDIS_URL=server.url, TURNSTILE_SAMPLES="1")
    folder = Path(tempfile.mkdtemp(prefix="turnstile-bench-"))
    try:
        print(about(server.about()), flush=True)
        for kind in options.workers.split(","):
            if options.idle_s:
                idle(server, folder, kind, options.idle_s)
        for kind in options.workers.split(","):
            soak = Soak(server, folder, kind, options.per_s)
            try:
                show(kind, options.minutes, *soak.run(options.minutes * 60))
            finally:
                soak.end()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
