"""`python3 -m jobs test`: every check and every test, in one go; pytest's summary is the last thing it prints."""

import os
import subprocess
import sys
from pathlib import Path

CHECKS = ("ruff check .", "ruff format --check .", "mypy", "lint-imports")
AT_ONCE = str((os.cpu_count() or 1) + 1)
TESTS = ("-n", AT_ONCE, "--dist", "loadfile", "tests/chaos", "tests/e2e", "tests/integration", "tests/unit")
"""One more at a time than there are cores, since many wait, and the longest first; the tests of a file share what it starts."""


def main(argv: list[str]) -> int:
    """Runs all of it, whatever fails. 0 when everything passed, else pytest's code, else 1."""
    failed = [check for check in CHECKS if _run(*check.split()) != 0]
    print(f"== checks: {', '.join(failed) + ' FAILED' if failed else 'passed'}")
    return _run("pytest", *(argv or TESTS)) or int(bool(failed))


def _run(*command: str) -> int:
    print(f"== {' '.join(command)}", flush=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return subprocess.run(command, env={**os.environ, "PATH": path}, check=False).returncode
