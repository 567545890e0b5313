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
from jobs.bootstrap import PRODUCTION_LOCK, TEST_LOCK, CannotInstall, check_python, ensure, runs_inside

COMMANDS = {
    "up": (PRODUCTION_LOCK, "jobs.up", "start Redis, the carrier, the web, the workers and the scheduler here"),
    "test": (TEST_LOCK, "jobs.checks", "run every check and test; what follows is passed on to pytest"),
    "demo": (PRODUCTION_LOCK, "jobs.commands.demo", "replay a day in the mall through the API of a running system"),
    "send": (PRODUCTION_LOCK, "jobs.commands.send", "enqueue a job by the name of its task"),
    "keys": (PRODUCTION_LOCK, "jobs.commands.keys", "make an API key"),
}
USAGE = 2
INTERRUPTED = 130


def main(argv: list[str]) -> int:
    """Runs a command; its exit code, or 2 with a message when it could not start."""
    name = argv[0] if argv else ""
    if name in ("-h", "--help"):
        print(help_text())
        return 0
    if name == "--version":
        print(f"turnstile {__version__}")
        return 0
    if name not in COMMANDS:
        print(help_text() if not name else f"there is no command {name!r}; see python3 -m jobs --help", file=sys.stderr)
        return USAGE
    root = Path(__file__).resolve().parent.parent
    lock, module, _ = COMMANDS[name]
    try:
        check_python(sys.version_info[:2])
        python = ensure(root, lock)
        if not runs_inside(root):
            sys.stdout.flush()
            # Not a child: signals and the exit code are the command's own.
            os.execv(python, [str(python), "-m", "jobs", *argv])  # noqa: S606
        return int(importlib.import_module(module).main(argv[1:]))
    except CannotInstall as error:
        print(f"turnstile: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


def help_text() -> str:
    """The commands, one a line."""
    lines = [f"  {name:<6}{text}" for name, (_, _, text) in COMMANDS.items()]
    return "usage: python3 -m jobs <command> [...]\n\n" + "\n".join(lines) + "\n\n  --help, --version"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
