"""What becomes of child processes when a parent dies, of orphans that are left behind, and what a process weighs.

Linux can tell a child of its parent's death and hand orphans to a chosen ancestor; elsewhere
nothing here does anything, and a SIGKILL of `up` leaves its children to be stopped by hand.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """A `preexec_fn`: the child gets the signal when the thread that started it ends, so start children in the main thread."""
    parent = os.getpid()

    def set_up() -> None:
        if _prctl:
            _prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
            if os.getppid() != parent:  # it died before the call above, which then came too late
                os._exit(128 + number)

    return set_up


def adopt_orphans() -> None:
    """Makes this process the parent of descendants that lose theirs, so that it can end them."""
    if _prctl:
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans(*, spare: set[int]) -> None:
    """Kills every child of this process but the spared, and what these leave behind in turn."""
    while orphans := _children() - spare:
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process; of this one where there is no /proc (then its peak), of another one then 0."""
    try:
        return int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1]) * resource.getpagesize()
    except (FileNotFoundError, ProcessLookupError):
        if pid is not None:
            return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1_024


def _children() -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # `pid (name) state ppid ...`, and the name may hold spaces and brackets.
            if int(entry.read_text(errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(entry.parent.name))
    return found
