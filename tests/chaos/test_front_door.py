"""The benches that overload the system and kill Redis under orders, in short: no accepted order is lost."""

import os
import subprocess
import sys

import pytest
from processes import ROOT

LIMIT_S = 280.0


@pytest.mark.timeout(LIMIT_S + 20)
@pytest.mark.parametrize("command", [("overload.py", "--seconds", "8"), ("orders.py", "--kills", "4")], ids=["overload", "kills"])
def test_overload_and_kills_cost_no_accepted_order(command: tuple[str, ...]) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TURNSTILE_")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / command[0]), *command[1:]],
        env=environ,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
