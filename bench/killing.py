"""The ground of the benches that kill workers: a server, a scheduler, workers, a folder in memory, and what became of jobs."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import processes
from peers import ENVIRON
from server import Server

from jobs import keys

START_S = 60.0
POLL_S = 0.01
SAID = 1_500
WORKER = ("-m", "rq.cli", "worker", "-w")

Process = Popen[bytes]


def wait_for(condition: Callable[[], object], limit_s: float, what: str) -> None:
    """Asks until the condition holds. Raises TimeoutError."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        time.sleep(POLL_S)


class Ground:
    """What a bench stands on."""

    def __init__(self, server: Server, folder: Path, environ: dict[str, str]) -> None:
        self.server = server
        self.folder = folder
        self.started: list[Process] = []
        self._environ = environ

    def start(self, *arguments: str, **environ: str) -> Process:
        """Starts Python."""
        log = self.folder / f"{len(self.started)}.log"
        self.started.append(processes.start([sys.executable, *arguments], {**self._environ, **environ}, log))
        return self.started[-1]

    def start_worker(self, kind: str, *queues: str, **environ: str) -> Process:
        """Starts the stock command with a worker class of ours."""
        return self.start(*WORKER, f"jobs.queue.worker.{kind}", *queues, RQ_CONFIG="observed_config", **environ)

    def worker(self, kind: str, *queues: str, **environ: str) -> Process:
        """Starts one and waits until it is at work."""
        started = self.start_worker(kind, *queues, **environ)
        wait_for(lambda: self.at_work([started]), START_S, f"{kind} enrols")
        return started

    def at_work(self, workers: Sequence[Process]) -> list[Process]:
        """Those of the workers that have enrolled: their names hold their process."""
        names = [key.decode() for key in self.server.client.smembers(keys.WORKERS)]
        return [worker for worker in workers if any(f"-{worker.pid}-" in name for name in names)]

    def scheduler(self) -> None:
        """Starts a scheduler and waits until it leads."""
        self.start("-m", "scheduler")
        wait_for(lambda: self.server.client.exists(keys.SCHEDULER_LOCK), START_S, "the scheduler leads")

    def said(self) -> str:
        """The last words of every process."""
        texts = [(self.folder / f"{number}.log").read_text(errors="replace") for number in range(len(self.started))]
        return "\n".join(f"--- {place.args}\n{text[-SAID:]}" for place, text in zip(self.started, texts, strict=True))

    def total(self, field: str, *queues: str) -> int:
        """A count of the queues since the beginning."""
        return sum(int(self.server.client.hget(keys.totals(queue), field) or 0) for queue in queues)

    def ended(self, *queues: str) -> int:
        """How many jobs have finished, or are dead letters."""
        return self.total("finished", *queues) + self.total("dead", *queues)

    def doubled(self, ids: list[str]) -> list[str]:
        """Those of the jobs, all of which have ended and keep their results, that have ended more or less often than once."""
        with self.server.client.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.xlen(keys.results(job_id))
            return [job_id for job_id, length in zip(ids, pipeline.execute(), strict=True) if length != 1]

    def statuses(self, ids: list[str]) -> Counter[str]:
        """How many of the jobs have which status."""
        with self.server.client.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.hget(keys.job(job_id), "status")
            return Counter((status or b"gone").decode() for status in pipeline.execute())


def options(description: str | None, kills: int) -> argparse.ArgumentParser:
    """What these benches have in common."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--kills", type=int, default=kills)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--aof-always", action="store_true", help="every write on disk before it is answered")
    return parser


@contextmanager
def ground(*, aof_always: bool, **environ: str) -> Iterator[Ground]:
    """Everything that was started is ended, and deleted, at the end."""
    server = Server(aof_always)
    folder = Path(tempfile.mkdtemp(prefix="turnstile-bench-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    os.environ["REDIS_URL"] = server.url
    base = Ground(server, folder, {**ENVIRON, "REDIS_URL": server.url, "BENCH_FOLDER": str(folder), **environ})
    try:
        yield base
    except TimeoutError:
        print(base.said())
        raise
    finally:
        processes.send(base.started, signal.SIGKILL)
        for process in base.started:
            process.wait()
        server.stop()
        shutil.rmtree(folder)
