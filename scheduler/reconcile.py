"""Asks the business to find what lost its job; it knows which state needs which job, the scheduler only when to look."""

from collections.abc import Callable

from scheduler.duty import Counts, logger


class Reconciliation:
    """The duty that calls the business. `reconcile` is given the time (Unix seconds) and says what it repaired."""

    interval_s = 2.0

    def __init__(self, reconcile: Callable[[float], list[str]]) -> None:
        self._reconcile = reconcile

    def tick(self, now: float) -> Counts:
        """Reconciles once."""
        repaired = self._reconcile(now)
        for what in repaired:
            logger.warning("reconciled", what=what)
        return {"reconciled": len(repaired)}
