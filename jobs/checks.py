"""`python3 -m jobs test`: every check and every test, in one go; pytest's summary is the last thing it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKS = (
    ("ruff check", "."),
    ("ruff format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
)
TESTS = ("tests/unit", "tests/integration", "tests/e2e")


def main(argv: list[str]) -> int:
    """Runs all of it, whatever fails. 0 when everything passed, else pytest's code, else 1."""
    bin_dir = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": bin_dir + os.pathsep + os.environ.get("PATH", os.defpath)}
    outcomes = {}
    for name, *arguments in CHECKS:
        command = [*name.split(), *arguments]
        print(f"== {' '.join(command)}", flush=True)
        outcomes[name] = subprocess.run(command, env=env, check=False).returncode
    print("== " + ", ".join(f"{name}: {'FAILED' if code else 'passed'}" for name, code in outcomes.items()))
    chosen = any(Path(argument.partition("::")[0]).exists() for argument in argv)
    command = [sys.executable, "-m", "pytest", *argv, *(() if chosen else TESTS)]
    print(f"== pytest {' '.join(command[3:])}", flush=True)
    return subprocess.run(command, env=env, check=False).returncode or int(any(outcomes.values()))
