"""Priorities: a queue has two more RQ queues beside it, `<queue>.high` and `<queue>.low`, served by the same workers."""

import re

PRIORITIES = (".high", "", ".low")
ONE = re.compile(r"(.+)\.(?:high|low)")


def base(queue: str) -> str:
    """The queue whose workers, bell and pause are also those of this one; push.lua rings by the same rule."""
    found = ONE.fullmatch(queue)
    return found[1] if found else queue


def served(queue: str) -> list[str]:
    """The RQ queues that a worker on this queue serves, the first first; one that is itself a priority stands alone."""
    return [queue] if queue != base(queue) else [queue + priority for priority in PRIORITIES]
