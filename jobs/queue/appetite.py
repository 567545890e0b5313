"""How many jobs a worker asks for: those that it can begin at once, and of short ones a few more, so that none is waited for.

Jobs ahead are as many as were lately done in AHEAD_S: a worker never sits on jobs that another could begin sooner, and takes
long jobs one at a time. Pure: instants come in as arguments (monotonic seconds).
"""

AHEAD_S = 0.01
SOON_S = 0.025
"""Jobs of a claim that have all ended so soon: the worker has waited for more, and the next claim is twice as large."""
WINDOW_S = 0.05
MAX_CLAIM = 100
MAX_AHEAD = 200
MEMORY = 0.5
"""The share of the rate that a new window does not change."""


class Appetite:
    """One worker's rate of endings, and what follows from it."""

    def __init__(self, now: float) -> None:
        self._rate = 0.0
        self._ended = 0
        self._since = now
        self._filled = 0
        self._claimed_at = now

    def claimed(self, jobs: int, wanted: int, now: float) -> None:
        """A claim has found so many of the jobs that it wanted."""
        self._filled, self._claimed_at = (jobs if jobs == wanted else 0), now

    def ended(self, jobs: int) -> None:
        """So many jobs have ended."""
        self._ended += jobs

    def stuck(self, now: float) -> None:
        """Jobs that were claimed ahead have not begun: none are, until others end."""
        self._rate, self._ended, self._filled, self._since = 0.0, 0, 0, now

    def wanted(self, size: int, in_hand: int, now: float) -> int:
        """How many jobs to claim, for a worker that runs `size` at once and has `in_hand` that have not ended."""
        span_s = now - self._since
        if span_s >= WINDOW_S:
            # A window that was longer than it had to be says more: after a pause nothing is left of the rate.
            kept = MEMORY ** (span_s / WINDOW_S)
            self._rate = self._rate * kept + self._ended / span_s * (1 - kept)
            self._ended, self._since = 0, now
        ahead = min(int(self._rate * AHEAD_S), MAX_AHEAD)
        if not in_hand and now - self._claimed_at <= SOON_S:
            ahead = max(ahead, 2 * self._filled)
        return max(0, min(size + ahead - in_hand, MAX_CLAIM))
