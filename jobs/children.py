"""What becomes of child processes when a parent dies, and of orphans that are left behind.

Linux can tell a child of its parent's death and hand orphans to a chosen ancestor; elsewhere
both functions do nothing, and a SIGKILL of `up` leaves its children to be stopped by hand.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def end_with_parent() -> Callable[[], None]:
    """A `preexec_fn`: the child gets SIGTERM when the thread that started it ends, so start children in the main thread."""
    parent = os.getpid()

    def set_up() -> None:
        if _prctl is None:
            return
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above, which then came too late
            os._exit(128 + signal.SIGTERM)

    return set_up


def adopt_orphans() -> None:
    """Makes this process the parent of descendants that lose theirs, so that it can find and end them."""
    if _prctl is not None:
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children_of(pid: int) -> list[int]:
    """The children of a process, zombies left out; an empty list where there is no /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # `pid (name) state ppid ...`, and the name may hold spaces and brackets.
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(entry.parent.name))
    return found
