"""How soon a job starts: `python bench/latency.py [--rounds 3] [--seconds 10] [--per-s 50] [--only ...]`.

A process enqueues one job after the other at that rate for one idle worker process; from the begin of the enqueuing call to the
job's first line, on the clock that all processes of a machine share (CLOCK_MONOTONIC). Percentiles of a round, medians of the
rounds.
"""

import argparse
import statistics
from dataclasses import dataclass

import rounds
from contenders.work import LATENCY
from fleet import Failed, Fleet, Row
from server import Server

SETTLE = 25
"""Jobs at the beginning that do not count: connections are opened, a sleeping core wakes."""


@dataclass(frozen=True, slots=True)
class Delays:
    """Of one run, in milliseconds."""

    p50: float
    p99: float
    longest: float


def trickle(server: Server, row: Row, seconds: float, per_s: float) -> Delays:
    """One contender, once."""
    fleet = Fleet(server, row, n_processes=1, slots=row.workers.slots)
    try:
        fleet.warm_up(1)
        jobs = SETTLE + round(seconds * per_s)
        began = fleet.push("stamp", [[number] for number in range(jobs)], per_s=per_s, limit_s=seconds + 60)
        fleet.wait()
        started = dict(line.split() for line in (fleet.folder / "stamps").read_text().splitlines())
        if len(started) != jobs:
            raise Failed(f"{len(started)} of {jobs} jobs said when they started")
        delays = sorted((float(started[str(number)]) - began[number]) * 1000 for number in range(SETTLE, jobs))
        return Delays(delays[len(delays) // 2], delays[len(delays) * 99 // 100], delays[-1])
    finally:
        fleet.end()


def show(chosen: list[Row], found: dict[Row, list[Delays]]) -> None:
    """Prints a line for each row."""
    p50 = {row: statistics.median(run.p50 for run in found[row]) for row in chosen}
    p99 = {row: statistics.median(run.p99 for run in found[row]) for row in chosen}
    late = [row for row in chosen if row.workers.late and not row.is_ours]
    best50, best99 = (min((values[row] for row in late), default=0.0) for values in (p50, p99))
    print(f"{'ms':46}{'p50':>9}{'p99':>9}{'longest':>9}{'p50 x best':>12}{'p99 x best':>12}{'late ack':>10}")
    for row in chosen:
        line = f"{row.title:46}{p50[row]:9.2f}{p99[row]:9.2f}{max(run.longest for run in found[row]):9.2f}"
        line += f"{p50[row] / best50:12.2f}{p99[row] / best99:12.2f}" if late else f"{'-':>12}{'-':>12}"
        print(f"{line}{'yes' if row.workers.late else 'no':>10}")
    print("\nx best: of the best peer that acknowledges late, below 1 is sooner.")


def main() -> None:
    """Reads the options and runs."""
    parser = rounds.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--per-s", type=float, default=50.0)
    options: argparse.Namespace = parser.parse_args()
    rounds.compare(LATENCY, options, lambda server, row: trickle(server, row, options.seconds, options.per_s), show)


if __name__ == "__main__":
    main()
