"""One process of `up`: its output line by line, and how it is asked to end or made to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from jobs.children import end_with_parent
from jobs.errors import InvalidField
from jobs.procfile import Command

CHUNK = 65_536  # what a pipe holds at most


class Child:
    """A running process in a session of its own, so that the terminal's Ctrl-C does not reach it."""

    def __init__(self, name: str, command: Command, cwd: Path, environ: Mapping[str, str]) -> None:
        """Starts it. Raises InvalidField when there is no such command."""
        self.name = name
        self._in_shell = command.in_shell
        self._rest = b""
        self.pipe, theirs = os.pipe()
        os.set_blocking(self.pipe, False)
        try:
            self.process = subprocess.Popen(
                command.argv,
                cwd=cwd,
                env={**environ, **command.env},
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )
        except OSError as error:
            os.close(self.pipe)
            raise InvalidField(f"process {name}", f"{command.argv[0]!r} cannot be started: {error.strerror}") from error
        finally:
            os.close(theirs)

    def read(self) -> list[bytes]:
        """The lines that have come since the last call; at the end of its output also the last, unfinished one."""
        if self.pipe < 0:
            return []
        try:
            data = os.read(self.pipe, CHUNK)
        except BlockingIOError:
            return []
        if not data:
            self.close()
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) > CHUNK):
            lines.append(self._rest)
            self._rest = b""
        return lines

    def close(self) -> None:
        """Closes our end of its output."""
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1

    def terminate(self) -> None:
        """One SIGTERM: to the process, or to its group where a shell stands in between."""
        if not self._in_shell:
            self.process.terminate()
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to its group, and waits for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
