"""A contender's workers for one run: started, warmed up, stopped in mid-air while jobs are enqueued, let go, ended.

All workers meet the same start: every process has run jobs, then all are stopped (SIGSTOP), the jobs are enqueued in bulk by a
process of their own, and the clock starts when they may go on. It stops when all jobs have left their marks and, seen in Redis,
nothing is unacknowledged. So neither start-up nor enqueuing is measured, whoever is slow at them.
"""

import json
import select
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes
from contenders.work import Workers
from peers import ENVIRON, HERE, OURS, Contender
from server import Server

from jobs.children import end_with_parent

WARM_UP = 100
STALLED_S = 30.0
"""Without any progress for this long, a run has failed."""
POLL_S = 0.002
BUSY_SHARE = 20
"""A look waits this many times as long as it took: watching must not cost."""


class Failed(Exception):
    """A contender does not do what it should: its row says why, and the run goes on."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One way to run one contender."""

    contender: Contender
    variant: str
    workers: Workers

    @property
    def title(self) -> str:
        """Library, version and variant."""
        return f"{self.contender.title} {self.variant}".strip()

    @property
    def is_ours(self) -> bool:
        """Whether it is no peer."""
        return self.contender is OURS


def rows(contenders: list[Contender], scene: str, only: str) -> list[Row]:
    """What takes part in a scene; `only`: contenders or contender:variant, with commas."""
    wanted, found = only.split(",") if only else [], []
    for contender in contenders:
        if wanted and not any(name.split(":")[0] == contender.name for name in wanted):
            continue
        environ = {**ENVIRON, "REDIS_URL": "redis://127.0.0.1:1/0"}
        command = [contender.python(), str(HERE / "pusher.py"), contender.name]
        answer = subprocess.run(command, env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if answer.returncode:
            print(f"{contender.title} cannot take part: {(answer.stderr.strip().splitlines() or ['?'])[-1]}")
            continue
        for variant, said in json.loads(answer.stdout).items():
            workers = Workers(**said)
            if scene in workers.scenes and (not wanted or {contender.name, f"{contender.name}:{variant}"} & set(wanted)):
                found.append(Row(contender, variant, workers))
    return found


class Fleet:
    """Workers of one kind on an empty server, and the process that enqueues for them."""

    def __init__(self, server: Server, row: Row, *, n_processes: int, slots: int, environ: dict[str, str] | None = None) -> None:
        server.empty()
        self._server, self._workers = server, row.workers
        self.folder = Path(
            tempfile.mkdtemp(prefix="turnstile-bench-marks-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        self._pending = server.client.register_script(row.workers.pending)
        self._sent = 0
        python = row.contender.python()
        names = {"bin": str(Path(python).parent), "python": python, "url": server.url, "slots": slots, "processes": n_processes}
        own = {key: value.format(**names) for key, value in row.workers.environ}
        self._environ = {
            **ENVIRON,
            "REDIS_URL": server.url,
            "BENCH_FOLDER": str(self.folder),
            "BENCH_SLOTS": str(slots),
            "BENCH_VARIANT": row.variant,
            "PYTHONUNBUFFERED": "1",
            **own,
            **(environ or {}),
        }
        once = any("{processes}" in part for part in row.workers.command)
        self.leaders = [
            processes.start(
                [part.format(index=index, **names) for part in row.workers.command],
                self._environ,
                self.folder / f"worker-{index}.log",
            )
            for index in range(1 if once else n_processes)
        ]
        pusher = [python, str(HERE / "pusher.py"), row.contender.name, row.variant]
        self._pusher = subprocess.Popen(
            pusher,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "pusher.log").open("wb"),
            preexec_fn=end_with_parent(),
        )
        self._answer(STALLED_S)

    def _answer(self, limit_s: float) -> Any:
        if self._pusher.stdout is None or not select.select([self._pusher.stdout], [], [], limit_s)[0]:
            raise Failed(f"enqueuing takes more than {limit_s:g} s")
        line = self._pusher.stdout.readline()
        if not line:
            raise Failed(f"enqueuing failed: {self._end_of('pusher')}")
        return json.loads(line)

    def _end_of(self, *names: str) -> str:
        logs = [path.read_text(errors="replace").strip() for name in names for path in sorted(self.folder.glob(f"{name}*.log"))]
        return " | ".join(log.splitlines()[-1] for log in logs if log) or "it says nothing"

    def push(self, job: str, calls: list[list[Any]], *, limit_s: float = 120.0, **order: Any) -> list[float]:
        """Enqueues; returns when (monotonic), see pusher.py. The job's name without the workers' own prefix."""
        if self._pusher.stdin is None:
            raise Failed("the pusher is gone")
        self._pusher.stdin.write(json.dumps({"job": self._workers.job + job, "calls": calls, **order}).encode() + b"\n")
        self._pusher.stdin.flush()
        self._sent += len(calls)
        began: list[float] = self._answer(limit_s)
        return began

    def warm_up(self, n_processes: int) -> None:
        """Runs jobs until every process has had some; a process for each job counts as well."""
        deadline = time.monotonic() + STALLED_S
        while True:
            self.push("noop", [[]] * WARM_UP)
            self.wait()
            if len(self._mark_files()) >= n_processes:
                return
            if time.monotonic() > deadline:
                raise Failed(f"only {len(self._mark_files())} of {n_processes} processes run jobs: {self._end_of('worker')}")

    def wait(self) -> None:
        """Until all that was enqueued has run and nothing is unacknowledged. Raises Failed when nothing moves any more."""
        last, moved_at = (-1, -1), time.monotonic()
        while True:
            began = time.monotonic()
            done = self.ran()
            pending = self.pending() if done >= self._sent else 0
            if done >= self._sent and pending == 0:
                if done > self._sent:
                    raise Failed(f"{done - self._sent} jobs ran twice")
                return
            now = time.monotonic()
            if (done, pending) != last:
                last, moved_at = (done, pending), now
            if now - moved_at > STALLED_S or any(leader.poll() is not None for leader in self.leaders):
                raise Failed(f"{self._sent - done} of {self._sent} jobs missing, {pending} pending: {self._end_of('worker')}")
            time.sleep(max(POLL_S, BUSY_SHARE * (now - began)) if done < self._sent else POLL_S)

    def pending(self) -> int:
        """Jobs that are not acknowledged."""
        return int(self._pending())

    def ran(self) -> int:
        """How many jobs have left their mark."""
        return sum(path.read_bytes().count(1) for path in self._mark_files())

    def _mark_files(self) -> list[Path]:
        return list(self.folder.glob("marks-*"))

    def signal(self, number: signal.Signals) -> None:
        """To all processes of the workers."""
        processes.send(self.leaders, number)

    def cpu_s(self) -> float:
        """Processor seconds of the workers."""
        return processes.cpu_s(processes.pids(self.leaders))

    def end(self) -> None:
        """Kills everything and deletes the marks."""
        self.signal(signal.SIGKILL)
        self._pusher.kill()
        for process in (*self.leaders, self._pusher):
            process.wait()
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()
