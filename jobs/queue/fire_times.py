"""When cron expressions and intervals fire: pure reckoning over Unix seconds, the same in every process.

An expression speaks of times on a wall clock, a zone says which instants show such a time. As in Debian's cron, one that
names its minute and its hour fires once for each, whatever the clocks do: a time that spring skips at the first minute that
exists after it, a time that autumn repeats in the first pass. One whose minute or hour begins with `*` fires whenever the
clock shows such a time: in both passes in autumn, and not for what spring skips. cronsim finds the times on the clock,
without a zone; what becomes of them is reckoned here, for with a zone it loses fires where clocks move by half an hour.
"""

import bisect
import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from cronsim import CronSim

DAY_S = 86_400
EPOCH = datetime(1970, 1, 1)
MINUTE = timedelta(minutes=1)

Times = Callable[[float], Iterator[float]]
"""The fire times later than an instant, in order."""


def every(every_s: int, after: float) -> Iterator[float]:
    """Multiples of the interval since 1970."""
    return map(float, itertools.count((math.floor(after) // every_s + 1) * every_s, every_s))


def cron(expression: str, zone: tzinfo, after: float) -> Iterator[float]:
    """What the expression says. Raises CronSimError when it says nothing; ends when 50 years pass without a fire."""
    minute, hour = expression.split()[-5:][:2] if len(expression.split()) > 4 else ("", "")
    fixed = not minute.startswith("*") and not hour.startswith("*")
    # Within a day in which clocks go back, times that are over by the clock come again.
    offset_s = min(_offset_s(zone, after), _offset_s(zone, after + DAY_S))
    start = EPOCH + timedelta(seconds=math.floor(after) + offset_s)
    passes = (0,) if fixed or zone is UTC else (0, 1)
    walks = [_instants(CronSim(expression, start), zone, fold, fixed) for fold in passes]
    return (at for at, _same in itertools.groupby(heapq.merge(*walks)) if at > after)


def _instants(walls: Iterator[datetime], zone: tzinfo, fold: int, fixed: bool) -> Iterator[float]:
    """The instants of wall-clock times, those that autumn repeats in the pass `fold`."""
    for wall in walls:
        at = wall.replace(tzinfo=zone, fold=fold)
        if _exists(at):
            yield at.timestamp()
        elif fixed:
            while not _exists(at):
                at = at.replace(second=0) + MINUTE
            yield at.timestamp()


def _exists(at: datetime) -> bool:
    return datetime.fromtimestamp(at.timestamp(), at.tzinfo).replace(tzinfo=None) == at.replace(tzinfo=None)


def _offset_s(zone: tzinfo, at: float) -> float:
    return (zone.utcoffset(datetime.fromtimestamp(at, zone)) or timedelta()).total_seconds()


def latest(times: Times, first: float, before: float, n: int) -> list[float]:
    """The last `n` of the fire times from `first` on that lie before an instant; takes no longer however many there are."""

    def some(after: float) -> list[float]:
        return list(itertools.islice(itertools.takewhile(before.__gt__, times(after)), n))

    seconds = range(math.floor(first) - 1, max(math.floor(first), math.ceil(before)))
    # The latest second after which there are n of them, or the first second of all.
    place = bisect.bisect_left(seconds, True, key=lambda second: len(some(second)) < n)
    return some(seconds[max(0, place - 1)])
