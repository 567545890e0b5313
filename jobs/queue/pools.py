"""How many jobs the workers of a pool run at once: the range that an operator gave, and the decision inside it.

A pool is the workers on the same queues.
"""

import math
from collections.abc import Sequence

import redis

from jobs import keys
from jobs.setting_values import Range

LATE_S = 0.5
"""A ready job that is older finds too few at work."""
GROW_EVERY_S = 0.9
"""Once a second, less what a heartbeat may come early."""
SHRINK_AFTER_S = 30.0


def pool_name(queues: Sequence[str]) -> str:
    """The pool of a worker on these queues."""
    return "-".join(queues)


def scale(client: redis.Redis, pool: str, wanted: Range | None) -> None:
    """Gives the pool a range, which its workers take up with their next heartbeat; None: their own settings again."""
    if wanted is None:
        client.hdel(keys.POOLS, pool)
    else:
        client.hset(keys.POOLS, pool, str(wanted))


def ranges(client: redis.Redis) -> dict[str, Range]:
    """What operators gave, by pool."""
    given = {pool.decode(errors="replace"): readable(text) for pool, text in client.hgetall(keys.POOLS).items()}
    return {pool: wanted for pool, wanted in given.items() if wanted is not None}


def readable(text: bytes | None) -> Range | None:
    """The range in a pool's field, None when there is none: somebody else's value must not stop a worker."""
    try:
        return Range.parse(text.decode()) if text else None
    except ValueError:
        return None


class Scaler:
    """Decides the size of one worker: up fast when jobs wait, down slowly when few are busy, within `range` at once."""

    def __init__(self, within: Range) -> None:
        self.range = within
        self._grown_at = -math.inf
        self._since: float | None = None
        self._most_busy = 0

    def sized(self, size: int, *, now: float, oldest_age_s: float, busy: int) -> int:
        """The size from now on (monotonic). `oldest_age_s` of the oldest ready job, `busy` jobs that run."""
        size = max(self.range.min, min(size, self.range.max))
        if oldest_age_s > LATE_S and busy >= size:
            self._since = None
            if now - self._grown_at >= GROW_EVERY_S:
                self._grown_at = now
                size = min(2 * size, self.range.max)
            return size
        if self._since is None:
            self._since, self._most_busy = now, busy
        self._most_busy = max(self._most_busy, busy)
        if now - self._since < SHRINK_AFTER_S:
            return size
        idle = size - self._most_busy
        self._since = None
        return max(self.range.min, size - math.ceil(idle / 4)) if idle > 1 else size
