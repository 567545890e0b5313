"""How many orders may still be accepted so that the last of them is not older than the limit when its turn comes.

The age of the oldest job says it too late: at ten times the pace, when the oldest has waited a second, the latest will wait ten.
So what is worked off a second is measured, and only while something always waits: less says nothing of what could be. Pure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

SMOOTHING = 0.3
"""Weight of the latest pace: a moment's hitch is no lack of workers."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Orders that have not passed a stage of their way yet, and how many have ever passed it."""

    ahead: int
    passed: int


class Backlog:
    """The pace of each stage, from one look to the next."""

    def __init__(self) -> None:
        self._before: Mapping[str, Stage] = {}
        self._looked_at = 0.0
        self._pace: dict[str, float] = {}

    def room(self, stages: Mapping[str, Stage], now: float, limit_s: float) -> float:
        """How many more orders are worked off within the limit; infinite while no pace is known."""
        took_s = now - self._looked_at
        for name, stage in stages.items():
            before = self._before.get(name)
            # Workers that stand still or are not there yet have no pace: for them the age of the oldest job counts.
            if before is not None and before.ahead and stage.ahead and stage.passed > before.passed and took_s > 0:
                pace = (stage.passed - before.passed) / took_s
                self._pace[name] = pace + (1 - SMOOTHING) * (self._pace.get(name, pace) - pace)
        self._before, self._looked_at = stages, now
        return min((limit_s * self._pace[name] - stages[name].ahead for name in stages if name in self._pace), default=math.inf)
