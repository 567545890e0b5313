"""How fast workers drain no-op jobs, ours beside others: `python bench/drain.py [--rounds 3] [--jobs 20000] [--only ...]`.

All in turn, several rounds, each against an empty server that this starts, with two worker processes unless the row says
otherwise; fleet.py tells what is measured, and each file in contenders/ how its workers are run and why so. Slow ones get fewer
jobs. Absolute figures belong to the machine, ratios of one run can be compared; the processor time a job hardly depends on who
else is busy. "Commands" are all that the server ran, those inside of scripts included; "round trips" the server's reads.
"""

import functools
import signal
import statistics
import time
from dataclasses import dataclass

import rounds
from contenders.work import DRAIN
from fleet import Fleet, Row
from server import Server

SIMPLE, FORKING = " SimpleWorker, 1 process", " Worker"


@dataclass(frozen=True, slots=True)
class Drained:
    """One run; all but the first a job."""

    rate: float
    commands: float
    round_trips: float
    worker_us: float
    server_us: float


def _counts(server: Server, fleet: Fleet) -> tuple[float, float, float, float]:
    """Commands, those of scripts included; reads; processor seconds of the workers and of the server."""
    stats = server.client.info("everything")
    commands = sum(command["calls"] for name, command in stats.items() if name.startswith("cmdstat_"))
    return commands, stats["total_reads_processed"], fleet.cpu_s(), stats["used_cpu_user"] + stats["used_cpu_sys"]


def jobs_of(row: Row, jobs: int) -> int:
    """How many jobs a row gets: so many that its last half-filled batch does not count."""
    return max(100, round(jobs * row.workers.share))


def drain(server: Server, row: Row, jobs: int) -> Drained:
    """One contender, once."""
    workers = row.workers
    fleet = Fleet(server, row, n_processes=workers.processes, slots=workers.slots)
    try:
        fleet.warm_up(workers.processes)
        fleet.signal(signal.SIGSTOP)
        fleet.push("noop", [[]] * jobs)
        before, began = _counts(server, fleet), time.monotonic()
        fleet.signal(signal.SIGCONT)
        fleet.wait()
        seconds = time.monotonic() - began
        commands, reads, worker_s, server_s = (
            (after - count) / jobs for count, after in zip(before, _counts(server, fleet), strict=True)
        )
        return Drained(jobs / seconds, commands, reads, worker_s * 1e6, server_s * 1e6)
    finally:
        fleet.end()


def show(jobs: int, chosen: list[Row], found: dict[Row, list[Drained]]) -> None:
    """Prints a line for each row, and what the ratios stand on."""
    rates = {row: statistics.median(run.rate for run in found[row]) for row in chosen}
    peers = [row for row in chosen if not row.is_ours]
    best = max(peers, key=lambda row: rates[row], default=None)
    bases = [best, *(next((row for row in peers if row.title.endswith(end)), None) for end in (SIMPLE, FORKING))]
    print(f"{'':46}{'jobs':>7}{'jobs/s  min':>13}{'median':>9}{'max':>9}{'x best':>8}{'x Simple':>9}{'x Worker':>9}", end="")
    print(f"{'late ack':>10}{'commands':>10}{'trips':>8}{'worker us':>11}{'server us':>11}")
    for row in chosen:
        runs = sorted(found[row], key=lambda run: run.rate)
        line = f"{row.title:46}{jobs_of(row, jobs):7,}{runs[0].rate:13,.0f}{rates[row]:9,.0f}{runs[-1].rate:9,.0f}"
        for base, width in zip(bases, (8, 9, 9), strict=True):
            line += f"{rates[row] / rates[base]:{width}.2f}" if base else f"{'-':>{width}}"
        line += f"{'yes' if row.workers.late else 'no':>10}"
        for name, width, digits in (("commands", 10, 2), ("round_trips", 8, 2), ("worker_us", 11, 0), ("server_us", 11, 0)):
            line += f"{statistics.median(getattr(run, name) for run in runs):{width}.{digits}f}"
        print(line)
    print(f"\nx best: of {best.title if best else 'no peer'}; x Simple: of one SimpleWorker; x Worker: of two forking workers.")
    print("commands, trips (round trips), worker us, server us (processor microseconds): a job, medians of the rounds.")


def main() -> None:
    """Reads the options and runs."""
    parser = rounds.parser(__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    options = parser.parse_args()
    rounds.compare(
        DRAIN,
        options,
        lambda server, row: drain(server, row, jobs_of(row, options.jobs)),
        functools.partial(show, options.jobs),
    )


if __name__ == "__main__":
    main()
