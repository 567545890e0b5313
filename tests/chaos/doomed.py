"""A process that dies at a crash point: forked from the tests' own, where everything is imported, and armed there.

It tells of its death on its standard error, which is read here: a case whose point was never reached fails.
"""

import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from jobs import connections, crash_points
from jobs.crash_points import CrashAt
from jobs.mall import carrier

LIMIT_S = 120.0


def die_at(point: str, work: Callable[[], object], *, in_child: bool = False) -> None:
    """Does the work in a process that is to die at the point; `in_child`: a child of it dies, and the process ends well."""
    with Doomed(point, work) as doomed:
        doomed.has_died(in_child=in_child)


class Doomed:
    """The process. With no point it is one like any other, killed at the end."""

    def __init__(self, point: str, work: Callable[[], object]) -> None:
        self._at = crash_points.parse(point) if point else None
        self._work = work

    def __enter__(self) -> "Doomed":
        self._said, mouth = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _live(mouth, self._at, self._work)
        os.close(mouth)
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._said)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def has_died(self, *, in_child: bool = False) -> None:
        """Waits until it is dead, and fails unless it died at the point."""
        said = self._last_words()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        doomed, self.pid = self.pid, 0
        name = self._at.name if self._at else ""
        deaths = [line for line in said.splitlines() if line.endswith(f"crashes at {name}")]
        assert len(deaths) == 1, f"ended with {status}, {len(deaths)} deaths at {name}:\n{said}"
        died_itself = deaths[0] == f"process {doomed} crashes at {name}"
        assert died_itself is not in_child and status == (0 if in_child else -signal.SIGKILL), f"{status}:\n{said}"

    def _last_words(self) -> str:
        """All that it and its children say, until the last of them is gone."""
        said, deadline = b"", time.monotonic() + LIMIT_S
        while select.select([self._said], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = os.read(self._said, 65_536)
            if not piece:
                return said.decode(errors="replace")
            said += piece
        raise AssertionError(f"not dead within {LIMIT_S:g} s:\n{said.decode(errors='replace')}")


def _live(mouth: int, at: CrashAt | None, work: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        os.dup2(mouth, 2)
        os.close(mouth)
        connections.process_client.cache_clear()  # sockets are not shared
        carrier._client.cache_clear()
        crash_points.arm(at)
        work()
        code = 0
    except BaseException:  # noqa: BLE001  the edge of the process
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)
