"""What the workers of stock_harness.py run, stock ones and ours: plain functions that leave a line in a log of effects."""

import os
import time

LOG = "EFFECTS"
"""The variable that names the file."""
KEPT_S = 7_200
"""Longer than a run: a job that is gone says nothing."""


def note(name: str, seconds: float) -> None:
    """Takes a while, and has an effect at its end."""
    _append(f"start {name} {time.time()!r}")
    time.sleep(seconds)
    _append(f"done {name} {time.time()!r}")


def tick(fire: str = "-") -> None:
    """The effect of a periodic job; a run of ours knows which fire it is for."""
    _append(f"tick {fire} {time.time()!r}")


def _append(line: str) -> None:
    """A whole line at once, on disk however this process ends."""
    descriptor = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)
