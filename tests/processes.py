"""Real processes for the tests: started like a line of the Procfile, waited for with a limit, ended with everything they left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from jobs.children import end_with_parent

ROOT = Path(__file__).parents[1]
POLL_S = 0.01
TAIL = 6_000

T = TypeVar("T")


def wait_for(condition: Callable[[], T], limit_s: float, what: str) -> T:
    """Asks until the condition holds and returns its answer; fails, saying what did not happen, after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:g} s: {what}; the last answer was {answer!r}")
        time.sleep(POLL_S)


class Process:
    """One process in a session of its own, its output in a file."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self.pid = popen.pid
        self._popen = popen
        self._output = output

    @property
    def output(self) -> str:
        """What it has printed so far, on stdout and stderr."""
        return self._output.read_text(errors="replace")

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Sends it alone a signal."""
        self._popen.send_signal(number)

    def ended(self, limit_s: float) -> int:
        """Waits for its end; returns the exit code, negative for a signal."""
        try:
            return self._popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {limit_s:g} s:\n{self.output[-TAIL:]}") from None

    def prints(self, text: str, limit_s: float = 20.0) -> None:
        """Waits until it has printed the text."""
        wait_for(lambda: text in self.output or not self.runs, limit_s, f"{self.name} prints {text!r}")
        if text not in self.output:
            raise AssertionError(f"{self.name} ended with {self._popen.poll()}:\n{self.output[-TAIL:]}")

    def children(self) -> list[int]:
        """What lives in its session beside it: a stock worker's horse has a process group of its own."""
        return sorted(pid for pid in _session(self.pid) if pid != self.pid)

    def send_all(self, number: signal.Signals) -> None:
        """Sends a signal to it and to everything in its session."""
        for pid in {*([self.pid] if self.runs else []), *_session(self.pid)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL to it and to everything in its session."""
        self.send_all(signal.SIGKILL)
        self._popen.wait()


ONE_AT_A_TIME = {"TURNSTILE_IO_SLOTS": "1", "TURNSTILE_CPU_CHILDREN": "1"}


class Processes:
    """Starts processes with one environment and ends them all."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = environ
        self.started: list[Process] = []
        self.tree = ROOT
        """The folder to start them in: the product, or a changed copy of it."""
        self.worker_class = ""
        """What `worker` starts: the command's default, which is CpuWorker, or the one named here, with one job at a time."""

    def start(self, *command: str, **environ: str) -> Process:
        """Starts a command as the Procfile writes it: `python` and `rq` are those of this virtual environment."""
        number = len(self.started)
        output = self._folder / f"process-{number}.log"
        bin_dir = Path(sys.executable).parent
        with output.open("wb") as log:
            popen = subprocess.Popen(
                command,
                cwd=self.tree,
                env={**self._environ, "PATH": f"{bin_dir}{os.pathsep}{self._environ.get('PATH', os.defpath)}", **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )
        process = Process(f"{number}: {' '.join(command)}", popen, output)
        self.started.append(process)
        return process

    def worker(self, *queues: str, config: str = "sample_config", options: tuple[str, ...] = (), **environ: str) -> Process:
        """Starts the stock `rq worker` command on the queues."""
        ours: tuple[str, ...] = ()
        if self.worker_class:
            ours = ("-w", f"jobs.queue.worker.{self.worker_class}")
            environ = ONE_AT_A_TIME | environ
        return self.start("rq", "worker", *ours, *options, *queues, RQ_CONFIG=config, **environ)

    def stock_worker(self, *queues: str, config: str = "sample_config", options: tuple[str, ...] = ()) -> Process:
        """Starts an unmodified `rq.Worker`."""
        return self.worker(*queues, config=config, options=("-w", "rq.Worker", "-S", "json", *options))

    def end(self) -> None:
        """Ends all of them."""
        for process in self.started:
            process.kill()

    def report(self) -> list[tuple[str, str]]:
        """Name and output's end of each, for the report of a failed test."""
        return [(process.name, process.output[-TAIL:]) for process in self.started]


def _session(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # `pid (name) state ppid pgrp session ...`, and the name may hold spaces and brackets.
            if int(entry.read_text(errors="replace").rpartition(")")[2].split()[3]) == leader:
                found.append(int(entry.parent.name))
    return found
