"""What every duty of the scheduler looks like, and how one bad item is kept from stopping it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from jobs import log
from jobs.connections import is_away
from jobs.queue.script import is_stale

logger = log.get("scheduler")

Counts = Mapping[str, int]
"""What a tick did: counter -> how many. Added to the hash keys.SCHEDULER."""


class Duty(Protocol):
    """One background duty. It may be cut off anywhere by a kill, and be done by two schedulers at once."""

    interval_s: float
    """How long after a tick the next one is due; a duty that knows better says so in its tick."""

    def tick(self, now: float) -> Counts:
        """Does what is due at `now` (Unix seconds, the server's) and returns."""


def is_ours(error: BaseException) -> bool:
    """Whether no item is to blame, but the loop has to act: Redis is away, or another scheduler leads."""
    return is_away(error) or is_stale(error)


@contextmanager
def one_item(event: str, **item: str) -> Iterator[None]:
    """Logs what goes wrong with one item, with its traceback, and goes on; what is the loop's concern is raised."""
    try:
        yield
    except Exception as error:
        if is_ours(error):
            raise
        logger.exception(event, **item)
