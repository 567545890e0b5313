"""Processes of a run: started in sessions of their own, so that all that they start in turn is found, weighed and ended."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from peers import ROOT

from jobs.children import end_with_parent

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def start(command: Sequence[str], environ: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Starts a command whose output goes to a file; it ends with this process."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env=environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=end_with_parent(),
        )


def pids(leaders: Iterable["subprocess.Popen[bytes]"]) -> list[int]:
    """All processes in the sessions of these."""
    wanted, found = {leader.pid for leader in leaders}, []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(_fields(int(entry.parent.name))[3]) in wanted:
                found.append(int(entry.parent.name))
    return sorted(found)


def send(leaders: Sequence["subprocess.Popen[bytes]"], number: signal.Signals) -> None:
    """A signal to all of them."""
    for pid in pids(leaders):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def cpu_s(members: Iterable[int]) -> float:
    """Processor seconds, with those of children that have ended."""
    total = 0
    for pid in members:
        with contextlib.suppress(OSError):
            total += sum(map(int, _fields(pid)[11:15]))
    return total / CLOCK_TICKS


def rss_bytes(pid: int) -> int:
    """Resident memory; 0 of a process that has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


def _fields(pid: int) -> list[str]:
    """Of /proc/<pid>/stat what follows `pid (name)`: the name may hold spaces and brackets."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
