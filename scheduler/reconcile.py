"""Asks the business to find what lost its job; it knows which state needs which job, the scheduler only when to look."""

from collections.abc import Callable

from scheduler.duty import Counts, logger

LOOK_S = 2.0
AGAIN_S = 0.2


class Reconciliation:
    """The duty that calls the business. `reconcile` is given the time (Unix seconds) and says what it repaired."""

    def __init__(self, reconcile: Callable[[float], list[str]]) -> None:
        self._reconcile = reconcile
        self.interval_s = LOOK_S

    def tick(self, now: float) -> Counts:
        """Reconciles once; soon again after a repair, since a pass is bounded."""
        repaired = self._reconcile(now)
        for what in repaired:
            logger.warning("reconciled", what=what)
        self.interval_s = AGAIN_S if repaired else LOOK_S
        return {"reconciled": len(repaired)}
