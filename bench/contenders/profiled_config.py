"""ours_config.py with a profile of each thread that matters (RQ_CONFIG=contenders.profiled_config), for profile_drain.py.

Of an IoWorker the engine's thread and the loop's; of a CpuWorker the parent and each child. In processor time of the thread:
waiting for Redis, for jobs or for the interpreter's lock is not in it. Written when they end.
"""

import cProfile
import functools
import os
import time
from collections.abc import Callable
from typing import Any

from contenders.ours_config import REDIS_URL
from contenders.work import FOLDER

from jobs.queue.child import Child
from jobs.queue.engine import Engine
from jobs.queue.main_loop import MainLoop

__all__ = ["REDIS_URL"]


def _profiled(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        profile = cProfile.Profile(time.thread_time)
        try:
            return profile.runcall(function, *args, **kwargs)
        finally:
            profile.dump_stats(FOLDER / f"profile-{part}-{os.getpid()}-{time.monotonic_ns()}")

    return run


for part, owner, name in (("engine", Engine, "run"), ("loop", MainLoop, "serve"), ("child", Child, "serve")):
    setattr(owner, name, _profiled(part, getattr(owner, name)))
