"""Runs the processes of `up` together: starts them, prints what they say, and ends them all when one ends or is asked to.

One thread and one loop, woken by signals and by output, so that nothing is decided in two places.
Ctrl-C reaches only the supervisor, which passes ONE SIGTERM on: a second one is a cold kill for an RQ worker.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from jobs.child import CHUNK, Child
from jobs.children import adopt_orphans, children_of
from jobs.output import Output
from jobs.procfile import Command

TICK_S = 1.0
STARTING_TICK_S = 0.05
AGAIN_S = 0.5  # two SIGINTs closer than this are one Ctrl-C, delivered twice
INTERRUPTED = 130


class Supervisor:
    """The processes that live and end together. Redis is watched, too, but whoever started it stops it, last."""

    def __init__(
        self, output: Output, *, redis: subprocess.Popen[bytes] | None, start_limit_s: float, stop_limit_s: float
    ) -> None:
        self.output = output
        self._redis = redis
        self._start_limit_s = start_limit_s
        self._stop_limit_s = stop_limit_s
        self._services: list[Child] = []
        self._processes: list[Child] = []
        self._asked_at: float | None = None
        self._kill = False
        self._wakeup, alarm = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(alarm, False)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._on_signal)
        adopt_orphans()

    def run(
        self,
        services: Mapping[str, Command],
        processes: Mapping[str, Command],
        cwd: Path,
        environ: Mapping[str, str],
        *,
        probe: Callable[[], str],
        announce: Callable[[], None],
    ) -> int:
        """Runs until asked to stop or until a process ends by itself; the exit code, once everything has ended.

        `services` are what jobs in flight still need: they stop after the other processes. `probe` says what is
        missing to be ready, "" for nothing; then `announce` is called once. Raises InvalidField.
        """
        code = 0
        started_at = time.monotonic()
        missing = "..."
        try:
            for started, commands in ((self._services, services), (self._processes, processes)):
                for name, command in commands.items():
                    started.append(Child(name, command, cwd, environ))
            while code == 0 and self._asked_at is None and not self.output.closed:
                self._wait(STARTING_TICK_S if missing else TICK_S)
                code = self._code_of_ended()
                if missing and code == 0:
                    missing = probe()
                    if not missing:
                        announce()
                    elif time.monotonic() - started_at > self._start_limit_s:
                        self.output.say("up", f"not ready after {self._start_limit_s:g} s: {missing}")
                        code = 1
        finally:
            clean = self.stop()
        return code or (0 if clean else INTERRUPTED if self._kill else 1)

    def stop(self) -> bool:
        """Ends every process: SIGTERM, then SIGKILL after the limit or a second Ctrl-C. True when no SIGKILL was needed."""
        self.output.say("up", "stopping; jobs in flight are finished first (Ctrl-C again to kill)")
        clean = [self._stop_together(children) for children in (self._processes, self._services)]
        self._end_orphans()
        for child in self._children:
            self._print(child)
            child.close()
        return all(clean)

    def _stop_together(self, children: list[Child]) -> bool:
        for child in children:
            child.terminate()
        deadline = time.monotonic() + self._stop_limit_s
        while (alive := [child for child in children if child.process.poll() is None]) and not self._kill:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            self._wait(min(TICK_S, left_s))
        for child in alive:
            self.output.say("up", f"{child.name} has not ended: killed")
            child.kill()
        return not alive

    @property
    def _children(self) -> list[Child]:
        return [*self._services, *self._processes]

    def _end_orphans(self) -> None:
        """Kills what ended processes left behind; an RQ horse, for one, has a process group of its own."""
        kept = {self._redis.pid} if self._redis else set()
        while orphans := set(children_of(os.getpid())) - kept:
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)

    def _code_of_ended(self) -> int:
        """The exit code to end with when a process has ended unasked, else 0; one that ended well has failed as well."""
        watched = [(child.name, child.process) for child in self._children]
        if self._redis is not None:
            watched.append(("redis", self._redis))
        for name, process in watched:
            code = process.poll()
            if code is not None:
                text = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
                self.output.say("up", f"{name} {text}: everything is stopped")
                return 128 - code if code < 0 else code or 1
        return 0

    def _wait(self, limit_s: float) -> None:
        """Waits for output, a signal or the limit, and passes output on."""
        pipes = {child.pipe: child for child in self._children if child.pipe >= 0}
        writing = [self.output.descriptor] if self.output.pending else []
        ready, _, _ = select.select([self._wakeup, *pipes], writing, [], limit_s)
        if self._wakeup in ready:
            os.read(self._wakeup, CHUNK)
        for pipe in ready:
            if pipe in pipes:
                self._print(pipes[pipe])
        self.output.write()

    def _print(self, child: Child) -> None:
        for line in child.read():
            self.output.say(child.name, line)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        elif number == signal.SIGINT and now - self._asked_at > AGAIN_S:
            self._kill = True
