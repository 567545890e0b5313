"""Where the time of our own no-op drain goes: `python bench/profile_drain.py [--workers IoWorker] [--jobs 20000] [--lines 25]`.

One drain as in drain.py for the rate, and one with cProfile in each thread, which makes it several times slower: its figures
show shares, not speed. Functions by their own processor time, microseconds a job; what Redis spent, by command, scripts with
what they call.
"""

import argparse
import pstats
import signal
import time
from pathlib import Path

from contenders.work import DRAIN
from drain import drain
from fleet import Fleet, Row, rows
from peers import OURS, ROOT
from server import Server, about

END_S = 10.0
SHOWN_US = 0.02


def profile(server: Server, row: Row, jobs: int, lines: int) -> None:
    """Drains under cProfile, ends the workers by SIGTERM, prints what they have written."""
    workers = row.workers
    own = {"RQ_CONFIG": "contenders.profiled_config"}
    fleet = Fleet(server, row, n_processes=workers.processes, slots=workers.slots, environ=own)
    try:
        fleet.warm_up(workers.processes)
        fleet.signal(signal.SIGSTOP)
        fleet.push("noop", [[]] * jobs)
        server.client.config_resetstat()
        began = time.monotonic()
        fleet.signal(signal.SIGCONT)
        fleet.wait()
        seconds = time.monotonic() - began
        stats = server.client.info("commandstats")
        print(f"\n{row.title}, under cProfile: {jobs / seconds:,.0f} jobs/s")
        _show_commands(stats, jobs)
        for leader in fleet.leaders:
            leader.terminate()
        for leader in fleet.leaders:
            leader.wait(END_S)
        for part in sorted({path.name.split("-")[1] for path in fleet.folder.glob("profile-*")}):
            _show(part, sorted(fleet.folder.glob(f"profile-{part}-*")), jobs, lines)
    finally:
        fleet.end()


def _show_commands(stats: dict[str, dict[str, float]], jobs: int) -> None:
    print(f"\n{'Redis: command':40}{'calls a job':>14}{'us a call':>12}{'us a job':>12}")
    for name, command in sorted(stats.items(), key=lambda item: -item[1]["usec"]):
        if command["usec"] / jobs >= SHOWN_US:
            line = f"{name.removeprefix('cmdstat_'):40}{command['calls'] / jobs:14.3f}"
            print(f"{line}{command['usec_per_call']:12.2f}{command['usec'] / jobs:12.2f}")


def _show(part: str, paths: list[Path], jobs: int, lines: int) -> None:
    stats = vars(pstats.Stats(*map(str, paths)))["stats"]  # its stub does not have it
    total = sum(row[2] for row in stats.values())
    print(f"\n{part}, {len(paths)} of them: {total / jobs * 1e6:.1f} us a job")
    print(f"{'function':72}{'calls a job':>12}{'own us a job':>14}{'with called':>13}")
    for (file, line, function), row in sorted(stats.items(), key=lambda item: -item[1][2])[:lines]:
        place = file.replace(f"{ROOT}/", "").rpartition("site-packages/")[2].rpartition("lib/python3")[2]
        where = function if file == "~" else f"{place}:{line} {function}"
        print(f"{where[-71:]:72}{row[1] / jobs:12.3f}{row[2] / jobs * 1e6:14.2f}{row[3] / jobs * 1e6:13.2f}")


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="IoWorker", help="a variant in contenders/ours.py")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--lines", type=int, default=25)
    options = parser.parse_args()
    row = next(row for row in rows([OURS], DRAIN, "") if row.variant == options.workers)
    server = Server(aof_always=False)
    try:
        print(about(server.about()))
        found = drain(server, row, options.jobs)
        print(
            f"\n{row.title}: {found.rate:,.0f} jobs/s, {found.commands:.2f} commands, {found.round_trips:.3f} round trips, "
            f"{found.worker_us:.0f} us of the workers and {found.server_us:.0f} us of Redis a job"
        )
        profile(server, row, options.jobs, options.lines)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
