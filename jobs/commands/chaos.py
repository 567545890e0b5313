"""`python3 -m jobs chaos [--minutes N] [--seed S]`: tries to lose an order, and says what it found.

The harness belongs to the tests (tests/chaos): this only starts it, with the tests' packages, in this process.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT, ROOT / "tests", ROOT / "tests" / "chaos")


def main(argv: list[str]) -> int:
    """Does not return: signals and the exit code are the harness's own. 0 when nothing was lost or doubled, else 1."""
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, FOLDERS))
    os.execv(sys.executable, [sys.executable, str(FOLDERS[-1] / "run.py"), *argv])  # noqa: S606
