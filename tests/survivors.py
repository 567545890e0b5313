"""Finds what a test's processes left running, through the folder that they were given."""

import contextlib
from pathlib import Path


def left_behind(folder: Path) -> list[str]:
    """The processes with the folder in their command line or environment; the server shows its socket's path there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if str(folder).encode() in command + (process / "environ").read_bytes():
                found.append(f"{process.name}: {command.replace(bytes(1), b' ').decode(errors='replace')}")
    return found
