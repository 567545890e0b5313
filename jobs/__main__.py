"""`python3 -m jobs <command>`: makes `.venv` from the lock, then runs the command inside it.

Only the standard library, and nothing that Python 3.8 cannot read: whoever has an old Python
must get a sentence, not a SyntaxError.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from jobs import __version__
from jobs.bootstrap import PRODUCTION_LOCK, TEST_LOCK, CannotInstall, check_python, ensure

COMMANDS = {
    "up": ("jobs.up", "start Redis, the carrier, the web, the workers and the scheduler here"),
    "test": ("jobs.checks", "run every check and test; what follows is passed on to pytest"),
    "chaos": ("jobs.commands.chaos", "kill, stop and starve every process under load for --minutes, then judge what it did"),
    "demo": ("jobs.commands.demo", "replay a day in the mall through the API of a running system"),
    "send": ("jobs.commands.send", "enqueue a job by the name of its task"),
    "dead-letters": ("jobs.commands.dead_letters", "look at what failed for good; redrive or discard it"),
    "workers": ("jobs.commands.workers", "look at the workers; scale a pool, stop or restart one"),
    "schedules": ("jobs.commands.schedules", "look at periodic and delayed jobs; run, pause, reschedule, cancel them"),
    "doctor": ("jobs.commands.doctor", "look for what is lost or left over in Redis, and mend it"),
    "keys": ("jobs.commands.keys", "make, list and revoke API keys and secrets of devices"),
}
TESTERS = ("test", "chaos")
"""Those that need what the tests need."""
USAGE = 2
INTERRUPTED = 130


def main(argv: list[str]) -> int:
    """Runs a command; its exit code, or 2 with a message when it could not start."""
    name = argv[0] if argv else "--help"
    if name == "--version":
        print(f"turnstile {__version__}")
        return 0
    if name not in COMMANDS:
        lines = [f"  {known:<14}{text}" for known, (_, text) in COMMANDS.items()]
        print("\n".join(["usage: python3 -m jobs <command> [...]", "", *lines, "", "  --help, --version"]))
        return 0 if name in ("-h", "--help") else USAGE
    root = Path(__file__).resolve().parent.parent
    try:
        check_python(sys.version_info[:2])
        python = ensure(root, TEST_LOCK if name in TESTERS else PRODUCTION_LOCK)
        if Path(sys.prefix).resolve() != (root / ".venv").resolve():
            os.environ.pop("PYTHONHOME", None)  # it would lead that Python astray, and back to this line for ever
            # Not a child: signals and the exit code are the command's own.
            os.execv(python, [str(python), "-m", "jobs", *argv])  # noqa: S606
        return int(importlib.import_module(COMMANDS[name][0]).main(argv[1:]))
    except CannotInstall as error:
        print(f"turnstile: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
