"""Which queue a task's jobs go to: a table of exact names and globs in the settings, ahead of what the task declares."""

import fnmatch
import functools
from collections.abc import Sequence

from jobs.settings import current


def route(task_name: str, declared: str, table: Sequence[tuple[str, str]]) -> str:
    """The queue for a task: that of its exact name, or else of the first glob that fits, or else the declared one."""
    for pattern, queue in table:
        if pattern == task_name:
            return queue
    return next((queue for pattern, queue in table if fnmatch.fnmatchcase(task_name, pattern)), declared)


@functools.cache
def routed(task_name: str, declared: str) -> str:
    """`route` by the table of this process's settings."""
    return route(task_name, declared, current().routes)
