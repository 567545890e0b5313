"""How many sleeping jobs one worker process keeps going: `python bench/sleepers.py [--rounds 3] [--jobs 2000] [--only ...]`.

2,000 jobs of 20 ms and one process with 100 slots: ideally 5,000 a second. On a loop where the library has one, else on threads.
Measured as in drain.py; those that have one slot get fewer jobs.
"""

import argparse
import signal
import statistics
import time

import rounds
from contenders.work import SLEEPERS
from fleet import Fleet, Row
from server import Server

NAP_S = 0.02
SLOTS = 100
IDEAL = SLOTS / NAP_S


def sleep(server: Server, row: Row, jobs: int) -> float:
    """One contender, once: jobs a second."""
    jobs = max(100, round(jobs * row.workers.share))
    fleet = Fleet(server, row, n_processes=1, slots=SLOTS)
    try:
        fleet.warm_up(1)
        fleet.push("nap", [[NAP_S]] * SLOTS)  # threads are started by the first jobs
        fleet.wait()
        fleet.signal(signal.SIGSTOP)
        fleet.push("nap", [[NAP_S]] * jobs)
        began = time.monotonic()
        fleet.signal(signal.SIGCONT)
        fleet.wait()
        return jobs / (time.monotonic() - began)
    finally:
        fleet.end()


def show(chosen: list[Row], found: dict[Row, list[float]]) -> None:
    """Prints a line for each row."""
    rates = {row: statistics.median(found[row]) for row in chosen}
    best = max((rates[row] for row in chosen if not row.is_ours), default=0.0)
    print(f"{'':46}{'jobs/s  min':>13}{'median':>9}{'max':>9}{'of ideal':>10}{'x best peer':>13}{'late ack':>10}")
    for row in chosen:
        line = f"{row.title:46}{min(found[row]):13,.0f}{rates[row]:9,.0f}{max(found[row]):9,.0f}{rates[row] / IDEAL:10.1%}"
        print(line + (f"{rates[row] / best:13.2f}" if best else f"{'-':>13}") + f"{'yes' if row.workers.late else 'no':>10}")
    print(f"\nideal: {IDEAL:,.0f} a second, {SLOTS} at once of {NAP_S * 1000:g} ms each.")


def main() -> None:
    """Reads the options and runs."""
    parser = rounds.parser(__doc__)
    parser.add_argument("--jobs", type=int, default=2_000)
    options: argparse.Namespace = parser.parse_args()
    rounds.compare(SLEEPERS, options, lambda server, row: sleep(server, row, options.jobs), show)


if __name__ == "__main__":
    main()
