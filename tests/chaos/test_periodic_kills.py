"""The bench that kills schedulers while periodic jobs fire, in short: no fire time is lost or doubled."""

import os
import subprocess
import sys

from processes import ROOT

LIMIT_S = 150.0


def test_killed_schedulers_cost_no_fire_and_double_none() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TURNSTILE_")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/periodic.py"), "--kills", "4", "--stops", "2", "--fires", "40", "--jobs", "2"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
