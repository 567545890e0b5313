"""The benches that kill workers, in short: what they prove about loss and doubles is checked in every run of the tests."""

import os
import subprocess
import sys

import pytest
from processes import ROOT

LIMIT_S = 150.0


@pytest.mark.parametrize("bench", [("kills.py", "--kills", "8", "--jobs", "1600"), ("recovery.py", "--kills", "4", "--no-bars")])
def test_killed_workers_cost_no_job_and_double_none(bench: tuple[str, ...]) -> None:
    name, *options = bench
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TURNSTILE_")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / name), *options],
        env=environ,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
