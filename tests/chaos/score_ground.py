"""The ground of the scores: a Redis of their own with every write on disk first, real processes, and what became of jobs.

Each score is one figure of docs/reliability.md: `python tests/chaos/score_<name>.py --seed 1` prints one line of JSON and
one of text, and ends with 1 when something was lost or doubled.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import by_hand
import redis
from processes import Process, Processes, wait_for
from servers import Server

from jobs import connections, keys

LIMIT_S = 110.0
PAGE = 1_000


class Ground:
    """What a score stands on."""

    def __init__(self, server: Server, folder: Path, **environ: str) -> None:
        self.server, self.folder = server, folder
        self.client: redis.Redis = connections.connect(server.url)
        left = {name: value for name, value in os.environ.items() if not name.startswith("TURNSTILE_")}
        own = {"REDIS_URL": server.url, "PYTHONPATH": by_hand.PYTHONPATH, "SCORE_FOLDER": str(folder)}
        self.processes = Processes(folder, {**left, **own, "TURNSTILE_LOG_LEVEL": "WARNING", **environ})

    def worker(self, kind: str, *queues: str, **environ: str) -> Process:
        """Starts the stock command with a worker class of ours, and waits for nothing."""
        command = ("rq", "worker", "-w", f"jobs.queue.worker.{kind}", *queues)
        return self.processes.start(*command, RQ_CONFIG="score_config", **environ)

    def at_work(self, *workers: Process) -> bool:
        """Whether they have all enrolled: a worker's name holds its process."""
        names = [name.decode() for name in self.client.smembers(keys.WORKERS)]
        return all(any(f"-{worker.pid}-" in name for name in names) for worker in workers)

    def until_at_work(self, *workers: Process) -> None:
        """Waits until they have enrolled."""
        wait_for(lambda: self.at_work(*workers), LIMIT_S, "the workers enrol")

    def schedulers(self, n: int) -> list[Process]:
        """Starts some, and waits until one leads."""
        started = [self.processes.start("python", "-m", "scheduler") for _ in range(n)]
        wait_for(lambda: self.client.exists(keys.SCHEDULER_LOCK), LIMIT_S, "a scheduler leads")
        return started

    def leader(self, schedulers: Sequence[Process]) -> Process | None:
        """The one that leads, as it says of itself."""
        pid = self.client.hget(keys.SCHEDULER, "pid")
        return next((process for process in schedulers if str(process.pid).encode() == pid and process.runs), None)

    def total(self, field: str, *queues: str) -> int:
        """A count of the queues since the beginning."""
        return sum(int(self.client.hget(keys.totals(queue), field) or 0) for queue in queues)

    def fields(self, ids: Sequence[str], *names: str) -> list[list[str]]:
        """Fields of the jobs' hashes, '' for what is not there."""
        found: list[list[str]] = []
        for start in range(0, len(ids), PAGE):
            with self.client.pipeline(transaction=False) as pipeline:
                for job_id in ids[start : start + PAGE]:
                    pipeline.hmget(keys.job(job_id), *names)
                found += [[(value or b"").decode() for value in values] for values in pipeline.execute()]
        return found

    def ends(self, ids: Sequence[str]) -> list[int]:
        """How often each job has ended, of those that keep their results."""
        found: list[int] = []
        for start in range(0, len(ids), PAGE):
            with self.client.pipeline(transaction=False) as pipeline:
                for job_id in ids[start : start + PAGE]:
                    pipeline.xlen(keys.results(job_id))
                found += pipeline.execute()
        return found

    def carrier(self) -> str:
        """Starts the small carrier service; returns its URL."""
        log = str(self.folder / "effects.jsonl")
        process = self.processes.start("python", "-m", "jobs.mall.carrier_service", "--port", "0", "--log", log)
        process.prints("http://")
        found = re.search(r"http://\S+", process.output)
        return found.group() if found else ""


@contextmanager
def ground(*, fsync: str = "always", **environ: str) -> Iterator[Ground]:
    """Everything that was started is ended, and deleted, at the end; what it said is shown when it took too long."""
    server = Server(fsync=fsync)
    server.start()
    os.environ["REDIS_URL"] = server.url
    folder = Path(tempfile.mkdtemp(prefix="turnstile-score-"))
    base = Ground(server, folder, **environ)
    try:
        yield base
    except AssertionError:
        for name, output in base.processes.report():
            print(f"--- {name}\n{output}", file=sys.stderr)
        raise
    finally:
        base.processes.end()
        base.client.close()
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)


def share(values: Sequence[float], part: float) -> float:
    """The value that this part of the values does not exceed."""
    return sorted(values)[max(0, min(len(values) - 1, round(part * len(values) + 0.5) - 1))]


def main(description: str, measure: Callable[[int], tuple[dict[str, Any], str, int]]) -> None:
    """Reads `--seed`, measures and prints. `measure` returns figures, a sentence, and how much was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    figures, text, wrong = measure(given.seed)
    took = {"seed": given.seed, "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps({"score": Path(sys.argv[0]).stem.removeprefix("score_"), **figures, "wrong": wrong, **took}))
    print(text)
    sys.exit(bool(wrong))
