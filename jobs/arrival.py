"""A signal that comes while `rq worker` loads its code ends it well: nothing has begun. Imported before what takes time."""

import os
import signal

import click

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_context = click.get_current_context(silent=True)
if _context is not None and _context.info_name == "worker":
    for _number in STOPS:
        # No SystemExit: what the import system calls back on its own swallows exceptions.
        signal.signal(_number, lambda _number, _frame: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)  # blocked while a worker began anew
