"""Python loads this at the start of each process that has the folder on its path: its wall clock is ahead by what a file says.

`CHAOS_CLOCK` names a file that holds one float64, the seconds. It is mapped into memory and read at each question, so that the
clock can jump while the process runs, and those of its forked children with it. The monotonic clock stays, as on a real machine.
"""

import ctypes
import datetime
import gc
import mmap
import os
import time


def _skew(path: str) -> None:
    with open(path, "r+b") as file:  # noqa: PTH123  pathlib would be one more import for each process
        ahead = memoryview(mmap.mmap(file.fileno(), 8)).cast("d")
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() + ahead[0]
    time.time_ns = lambda: nanoseconds() + int(ahead[0] * 1e9)
    # `datetime.now` asks the system itself, and the class is one of C's: only its own dictionary can be written to.
    fields = gc.get_referents(datetime.datetime.__dict__)[0]
    fields["now"] = classmethod(lambda cls, tz=None: cls.fromtimestamp(time.time(), tz))
    fields["utcnow"] = classmethod(lambda cls: cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None))
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


if "CHAOS_CLOCK" in os.environ:
    _skew(os.environ["CHAOS_CLOCK"])
