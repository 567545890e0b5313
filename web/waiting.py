"""How many requests may wait for Redis at once: as many as are answered in time, found out by how long the last ones took.

A fixed number would be an overlong wait on a slow machine, and a refusal without need on a fast one. One that waited too
long says how many fewer would have been in time; each that did not lets the number grow a little. Pure: the time comes in.
"""

from collections import deque

TARGET_S = 0.02
"""How long a request may wait: the rest of the 50 ms within which it is to be answered is the process's own."""
STEP = 0.25


class Waiting:
    """The requests of one kind that wait, at most `most` of them and never fewer than `floor`: a slow disk is no overload."""

    def __init__(self, floor: int, most: int) -> None:
        self._floor, self._most = floor, most
        self._limit = float(most)
        self._begun: deque[tuple[float, int]] = deque()

    def full(self, now: float) -> int:
        """0 while one more may wait, else how many may: no more than `floor` behind one that already waits too long."""
        late = self._begun and now - self._begun[0][0] > TARGET_S
        limit = self._floor if late else int(self._limit)
        return limit if len(self._begun) >= limit else 0

    def begin(self, now: float) -> None:
        """One more waits."""
        self._begun.append((now, len(self._begun) + 1))

    def end(self, now: float) -> None:
        """One waits no more; they are answered in the order in which they came, or nearly."""
        begun_at, place = self._begun.popleft()
        waited_s = now - begun_at
        if waited_s > TARGET_S:
            self._limit = max(self._floor, min(self._limit, place * TARGET_S / waited_s))
        else:
            self._limit = min(self._most, self._limit + STEP)
