"""How fast jobs are enqueued, ours beside other libraries: `python bench/enqueue.py [--rounds 5] [--only ours,stock_rq]`.

Starts its own server, installs the others at pinned versions under .bench/, and gives each contender a process of its own
in every round, so that all meet the same noise. Every job is `add(3, 4)` with the library's defaults, from one process over
TCP. Absolute figures belong to the machine; the ratios of one run can be compared. Also counted, in a run of its own: the
reads of the server (round trips of the client), the commands that the client sent, and those that its scripts ran.
"""

import argparse
import json
import re
import statistics
import subprocess
from collections import defaultdict

from peers import CONTENDERS, ENVIRON, HERE, STOCK, Contender
from server import Server, about

COUNTED = 100
MONITORED = re.compile(rb" \[\d+ (lua|[^]]*)\] \"")


class Run:
    """One contender's process: warmed up when it is made, enqueues when told so."""

    def __init__(self, server: Server, contender: Contender, mode: str, jobs: int) -> None:
        server.empty()
        environ = {**ENVIRON, "REDIS_URL": server.url}
        command = [contender.python(), str(HERE / "contender.py"), contender.name, mode, str(jobs)]
        self._process = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None or self._process.stdout.readline() != "ready\n":
            raise SystemExit(f"{contender.name} failed")

    def go(self) -> dict[str, float]:
        """Total, p50 and p99 in seconds."""
        output, _ = self._process.communicate("go\n")
        if self._process.returncode:
            raise SystemExit(f"{self._process.args!r} failed")
        figures: dict[str, float] = json.loads(output)
        return figures


def count(server: Server, contender: Contender, mode: str, jobs: int) -> tuple[float, float, float]:
    """Round trips, commands of the client, and commands inside its scripts, a job."""
    run = Run(server, contender, mode, jobs)
    with server.client.monitor() as monitor:
        server.client.echo("the beginning")  # on a connection that may be new: what comes before it does not count
        server.client.config_resetstat()
        run.go()
        reads = server.client.info("stats")["total_reads_processed"]
        server.client.echo("the end")
        sent = scripted = 0
        connection = monitor.connection
        while b"the end" not in (line := connection.read_response(disable_decoding=True)):
            if b"the beginning" in line:
                sent = scripted = 0
                continue
            match = MONITORED.search(line)
            if match:
                scripted += match[1] == b"lua"
                sent += match[1] != b"lua"
    # Not the contender's: the read of INFO, that of its closed connection, and INFO among the commands.
    return (reads - 2) / jobs, (sent - 1) / jobs, scripted / jobs


def measure(server: Server, contenders: list[Contender], mode: str, jobs: int, rounds: int) -> None:
    """Runs all of them in turn, several times, and prints a line for each."""
    figures: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(rounds):
        for contender in contenders:
            figures[contender.name].append(Run(server, contender, mode, jobs).go())
    rates = {name: sorted(jobs / run["total_s"] for run in runs) for name, runs in figures.items()}
    stock = statistics.median(rates[STOCK.name])
    print(f"\n{mode}: {jobs:,} jobs, {rounds} rounds")
    print(f"{'':20}{'jobs/s  min':>12}{'median':>9}{'max':>9}{'x stock RQ':>12}{'p50 ms':>9}{'p99 ms':>9}", end="")
    print(f"{'round trips':>13}{'commands':>10}{'in scripts':>12}  a job")
    for contender in contenders:
        low, middle, high = rates[contender.name][0], statistics.median(rates[contender.name]), rates[contender.name][-1]
        runs = figures[contender.name]
        line = f"{contender.title:20}{low:12,.0f}{middle:9,.0f}{high:9,.0f}{middle / stock:12.1f}"
        if mode == "single":
            p50, p99 = (statistics.median(run[name] for run in runs) * 1000 for name in ("p50_s", "p99_s"))
            line += f"{p50:9.3f}{p99:9.3f}"
        else:
            line += f"{'':18}"
        trips, sent, scripted = count(server, contender, mode, COUNTED if mode == "single" else jobs)
        print(f"{line}{trips:13.3f}{sent:10.3f}{scripted:12.2f}")


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=3_000, help="single calls a round")
    parser.add_argument("--bulk", type=int, default=10_000, help="jobs of the bulk call")
    parser.add_argument("--only", default=",".join(contender.name for contender in CONTENDERS), help="names, with commas")
    parser.add_argument("--aof-always", action="store_true", help="every write on disk before it is answered")
    options = parser.parse_args()
    wanted = options.only.split(",")
    contenders = [contender for contender in CONTENDERS if contender.name in wanted or contender is STOCK]
    for contender in contenders:
        contender.python()
    server = Server(options.aof_always)
    try:
        print(about(server.about()))
        measure(server, contenders, "single", options.jobs, options.rounds)
        measure(server, contenders, "bulk", options.bulk, options.rounds)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
