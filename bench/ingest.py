"""The front door's entries: `python bench/ingest.py [--rounds 3] [--seconds 5]`, or with --memory, --whole lines|singles.

Without a mode: single entries over 64 connections into one web process beside a bare Starlette route that validates the same
JSON and one that enqueues an RQ job an entry, in alternating rounds; then NDJSON of 5,000 events over 2 connections. Client, web,
Redis and counter are a process each and share the machine's cores as the system has it.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import processes
from peers import ENVIRON, HERE
from server import Server, about

from jobs import connections, keys
from jobs.mall import entries
from jobs.settings import Settings

CONNECTIONS = 64
LINES = 5_000
LINE_CONNECTIONS = 2
START_S = 20.0
MILLION = 1_000_000
BARE = "import bare, uvicorn; uvicorn.run(bare.make_app(), port=%d, log_level='warning', access_log=False)"
COUNTER = "from rq.cli.cli import main; main()"


@contextmanager
def web(server: Server, *, ours: bool) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A web process of one kind and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {**ENVIRON, "REDIS_URL": server.url, "PORT": str(port), "TURNSTILE_LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-m", "web"] if ours else [sys.executable, "-c", BARE % port]
    with running(command, environ) as process:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def running(command: list[str], environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended at the end."""
    with tempfile.TemporaryDirectory() as folder:
        process = processes.start(command, environ, Path(folder) / "log")
        try:
            yield process
        finally:
            process.terminate()
            process.wait()
            if said := (Path(folder) / "log").read_text()[-1_000:]:
                print(said)


def load(url: str, seconds: float, connections_: int = CONNECTIONS, lines: int = 0) -> dict[str, Any]:
    """What the load client saw; anything but 202 fails the run."""
    command = [sys.executable, str(HERE / "load.py"), url, str(connections_), str(seconds)]
    done = subprocess.run(
        [*command, *(("lines", str(lines)) if lines else ("singles",))], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if set(found["statuses"]) != {"202"}:
        sys.exit(f"{url} answered {found['statuses']}")
    return found


def compare(server: Server, rounds: int, seconds: float) -> None:
    """Singles and NDJSON into ours, beside the routes of bare.py."""
    found: dict[str, list[dict[str, Any]]] = {"bare": [], "ours": [], "enqueue": [], "NDJSON": []}
    with web(server, ours=True) as (ours, our_process), web(server, ours=False) as (bare, bare_process):
        plan = (
            ("bare", f"{bare}/bare", bare_process, CONNECTIONS, 0),
            ("ours", f"{ours}/v1/entries", our_process, CONNECTIONS, 0),
            ("enqueue", f"{bare}/enqueue", bare_process, CONNECTIONS, 0),
            ("NDJSON", f"{ours}/v1/entries", our_process, LINE_CONNECTIONS, LINES),
        )
        for _ in range(rounds):
            for name, url, process, connections_, lines in plan:
                server.empty()
                cpu, memory_ = processes.cpu_s([process.pid]), processes.rss_bytes(process.pid)
                run = load(url, seconds, connections_, lines)
                run["cpu"] = (processes.cpu_s([process.pid]) - cpu) / run["events"] * 1e6
                run["grown"] = (processes.rss_bytes(process.pid) - memory_) / 1e6
                found[name].append(run)
    base = rate(found["bare"])
    for name, runs in found.items():
        p50, p99, cpu = (statistics.median(run[field] for run in runs) for field in ("p50", "p99", "cpu"))
        print(
            f"{name:8}{rate(runs):9,.0f} events/s {rate(runs) / base:6.2f} of bare   p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   "
            f"{cpu:6.1f} us of the process' processor an event   memory grew by {runs[-1]['grown']:.1f} MB in the last round"
        )


def rate(runs: list[dict[str, Any]]) -> float:
    """The median of events a second."""
    return statistics.median([float(run["events"] / run["seconds"]) for run in runs])


def whole(server: Server, kind: str, seconds: float) -> None:
    """Accept to counted: what waits and how long is read every second while it runs."""
    counter = {**ENVIRON, "REDIS_URL": server.url, "RQ_CONFIG": "jobs.rq_config", "TURNSTILE_LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-c", COUNTER, "worker", "-w", "jobs.queue.worker.IoWorker", "entries"]
    lines, connections_ = (LINES, LINE_CONNECTIONS) if kind == "lines" else (0, CONNECTIONS)
    pending, lags = [], []
    with web(server, ours=True) as (url, _), running(command, counter):
        load_command = [sys.executable, str(HERE / "load.py"), f"{url}/v1/entries", str(connections_), str(seconds)]
        client = subprocess.Popen(
            [*load_command, *(("lines", str(lines)) if lines else ("singles",))], stdout=subprocess.PIPE, text=True
        )
        while client.poll() is None:
            time.sleep(1)
            accepted, counted = (int(number or 0) for number in server.client.hmget(keys.ENTRIES, "accepted", "counted"))
            oldest = server.client.lindex(keys.ENTRIES_BUFFER, 0)
            pending.append(accepted - counted)
            lags.append(time.time() - float(oldest.split(b"|")[0]) if oldest else 0.0)
        found = json.loads(client.communicate()[0])
        deadline = time.monotonic() + START_S
        while server.client.llen(keys.ENTRIES_BUFFER) and time.monotonic() < deadline:
            time.sleep(0.05)
    accepted, counted = (int(number) for number in server.client.hmget(keys.ENTRIES, "accepted", "counted"))
    print(f"{kind}: {found['events'] / found['seconds']:,.0f} events/s for {found['seconds']:.0f} s, answers {found['statuses']}")
    print(f"pending at most {max(pending):,}, lag p50 {statistics.median(lags):.2f} s, at most {max(lags):.2f} s")
    print(f"accepted {accepted:,}, counted {counted:,}, sent {found['events']:,}")
    sys.exit(not accepted == counted == found["events"])


async def memory(server: Server) -> None:
    """What an event costs Redis to be told from a repeated one."""
    client, settings = connections.connect_async(server.url), Settings()
    now = time.time()
    batch: list[dict[str, Any]]
    for name in ("event_id", "sensor and seq"):
        await entries.ingest(client, [_entry(settings, now, {"event_id": "warm up"})], settings=settings, now=now)
        server.empty()
        before = server.client.info("memory")["used_memory"]
        for start in range(0, MILLION, 2_000):
            if name == "event_id":
                batch = [{"event_id": uuid.uuid4().hex} for _ in range(2_000)]
            else:
                batch = [{"sensor": f"sensor {number % 50}", "seq": number // 50} for number in range(start, start + 2_000)]
            await entries.ingest(client, [_entry(settings, now, event) for event in batch], settings=settings, now=now)
        server.client.delete(keys.ENTRIES_BUFFER)
        grown = server.client.info("memory")["used_memory"] - before
        print(f"{MILLION:,} events by {name}: {grown / MILLION:.1f} bytes each")
    await client.aclose()


def _entry(settings: Settings, now: float, event: dict[str, Any]) -> entries.Entry:
    return entries.parse(json.dumps({"gate": "n", **event}).encode(), settings=settings, zone=settings.zone, now=now)


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--whole", choices=("lines", "singles"))
    parser.add_argument("--aof-always", action="store_true")
    options = parser.parse_args()
    os.environ.pop("REDIS_URL", None)
    server = Server(aof_always=options.aof_always)
    try:
        print(about(server.about()), flush=True)
        if options.memory:
            asyncio.run(memory(server))
        elif options.whole:
            whole(server, options.whole, options.seconds)
        else:
            compare(server, options.rounds, options.seconds)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
