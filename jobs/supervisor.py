"""Runs the processes of `up` together: starts them, prints what they say, and ends them all when one ends or is asked to.

Each has a session of its own, so that the terminal's Ctrl-C reaches only the supervisor, which passes ONE SIGTERM on:
a second one is a cold kill for an RQ worker.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobs.children import adopt_orphans, end_orphans, end_with_parent
from jobs.errors import InvalidField
from jobs.output import Output

STOP_LIMIT_S = 25.0
LAST_WORDS_LIMIT_S = 1.0
TICK_S = 0.1
INTERRUPTED = 130

Groups = Sequence[Mapping[str, list[str]]]
"""Commands by the names of their processes."""


class Supervisor:
    """The processes that live and end together. Redis is watched, too, but whoever started it stops it, last."""

    def __init__(self, output: Output, redis: subprocess.Popen[bytes] | None) -> None:
        self._output = output
        self._redis = {"redis": redis} if redis else {}
        self._groups: list[dict[str, subprocess.Popen[bytes]]] = []
        self._readers: list[threading.Thread] = []
        self._signals: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup has SIGHUP ignored; a shell that starts it with `&` has SIGINT ignored, and means nothing by it.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _frame: self._signals.append(number))
        adopt_orphans()

    def run(self, groups: Groups, cwd: Path, environ: Mapping[str, str], is_ready: Callable[[], bool], banner: list[str]) -> int:
        """Starts the groups in order, and ends them in reverse when asked to, or when a process has ended by itself.

        Prints the banner once it is ready. The exit code, once everything has ended. Raises InvalidField.
        """
        code = 0
        try:
            for commands in groups:
                self._groups.append({})
                for name, argv in commands.items():
                    self._groups[-1][name] = _start(name, argv, cwd, environ)
            self._output.start()  # and other threads: after the processes, since a fork beside threads is not safe
            for name, process in self._processes.items():
                self._readers.append(threading.Thread(target=self._output.pass_on, args=(name, process.stdout), daemon=True))
                self._readers[-1].start()
            while code == 0 and not self._signals:
                if banner and is_ready():
                    self._say(*banner)
                    banner = []
                time.sleep(TICK_S)
                code = self._code_of_ended()
        finally:
            clean = self._stop()
        return code or (0 if clean else INTERRUPTED if self._is_impatient else 1)

    @property
    def _processes(self) -> dict[str, subprocess.Popen[bytes]]:
        return {name: process for group in self._groups for name, process in group.items()}

    def _code_of_ended(self) -> int:
        """The exit code to end with when a process has ended unasked, else 0; one that ended well has failed as well."""
        for name, process in {**self._processes, **self._redis}.items():
            code = process.poll()
            if code is not None:
                text = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
                self._say(f"{name} {text}: everything is stopped")
                return 128 - code if code < 0 else code or 1
        return 0

    def _stop(self) -> bool:
        """Ends every process; True when none had to be killed."""
        self._say("stopping; jobs in flight are finished first (Ctrl-C again to kill)")
        clean = [self._end(group) for group in reversed(self._groups)]
        # An RQ horse, for one, has a process group of its own.
        end_orphans(spare={process.pid for process in self._redis.values()})
        for reader in self._readers:
            reader.join(LAST_WORDS_LIMIT_S)
        return all(clean)

    def _end(self, group: Mapping[str, subprocess.Popen[bytes]]) -> bool:
        """SIGTERM, then SIGKILL after the limit or a second Ctrl-C; True when no SIGKILL was needed."""
        for process in group.values():
            process.terminate()
        deadline = time.monotonic() + STOP_LIMIT_S
        while alive := [name for name, process in group.items() if process.poll() is None]:
            if time.monotonic() > deadline or self._is_impatient:
                break
            time.sleep(TICK_S)
        for name in alive:
            self._say(f"{name} has not ended: killed")
            os.killpg(group[name].pid, signal.SIGKILL)
            group[name].wait()
        return not alive

    def _say(self, *lines: str) -> None:
        for line in lines:
            self._output.say("up", os.fsencode(line))

    @property
    def _is_impatient(self) -> bool:
        return signal.SIGINT in self._signals[1:]


def _start(name: str, argv: list[str], cwd: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent(),
        )
    except OSError as error:
        raise InvalidField(f"process {name}", f"{argv[0]!r} cannot be started: {error.strerror}") from error
