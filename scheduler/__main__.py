"""`python -m scheduler`: exit code 0 after a stop, 2 for an environment that cannot be used."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress

from jobs.errors import BadSettings
from jobs.settings import current
from scheduler.stop import Overdue, Stop


def main() -> int:
    """Handles signals from the first moment, and reads the settings before anything is imported that stands on them."""
    stop = Stop()
    stop.install()
    try:
        settings = current()
    except BadSettings as error:
        print(error, file=sys.stderr)
        return 2
    with suppress(Overdue):
        importlib.import_module("scheduler.process").run(settings, stop)
    stop.grant(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
