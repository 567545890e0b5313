"""A progress bar on a terminal; a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from typing import TextIO

BAR_WIDTH = 30
LINE_EVERY_S = 5.0


class Progress:
    """Shows how much of `total` is done."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._bar = out.isatty()
        self._shown_at = float("-inf")

    def show(self, done: int, total: int, note: str) -> None:
        """Draws the state; off a terminal only if the last line is old enough."""
        share = done / total if total else 1.0
        if self._bar:
            bar = "#" * round(share * BAR_WIDTH)
            # \r and erase-to-end-of-line: a shorter note leaves nothing of a longer one behind.
            self._out.write(f"\r[{bar:.<{BAR_WIDTH}}] {share:4.0%}  {note}\x1b[K")
        elif time.monotonic() - self._shown_at >= LINE_EVERY_S:
            self._out.write(f"{share:4.0%}  {note}\n")
            self._shown_at = time.monotonic()
        self._out.flush()

    def end(self) -> None:
        """Leaves the bar's line."""
        if self._bar:
            self._out.write("\n")
            self._out.flush()
