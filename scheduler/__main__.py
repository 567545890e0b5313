"""`python -m scheduler`: exit code 0 after a stop, 2 for an environment that cannot be used."""

import importlib
import signal
import sys
from types import FrameType

from jobs.errors import BadSettings
from jobs.settings import current

STOPS = (signal.SIGTERM, signal.SIGINT)
LEAVE_S = 1


def main() -> int:
    """Handles signals from the first moment: what takes long to import comes after that."""
    for number in STOPS:
        signal.signal(number, _stop)
    try:
        settings = current()
    except BadSettings as error:
        print(error, file=sys.stderr)
        return 2
    importlib.import_module("scheduler.process").run(settings)
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Ends the process wherever it is, for every write is one script or one MULTI, so there is no bad moment.

    What follows does not disturb it while it gives the lease back, but a Redis that does not answer does not hold it up.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(LEAVE_S)
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
