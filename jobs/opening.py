"""When the mall is open, `mon-fri 09:00-21:00, sat 10:00-18:00` in local time, and how many people it holds. Pure."""

import re
from datetime import datetime
from itertools import chain

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPAN = re.compile(r"([a-z]{3})(?:-([a-z]{3}))? +([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
DAY_MINUTES = 24 * 60


class OpeningHours:
    """The minutes of the week in which the mall is open. Compared and hashed by identity: it is a key of caches."""

    def __init__(self, text: str) -> None:
        """Reads spans `<day>[-<day>] HH:MM-HH:MM`, with commas; one that ends before it begins goes past midnight.

        Raises ValueError.
        """
        self.text = text
        self._open: set[int] = set()
        for item in text.split(","):
            found = SPAN.fullmatch(item.strip().lower())
            if not found or found[1] not in DAYS or (found[2] or found[1]) not in DAYS:
                raise ValueError(f"{item.strip()!r} must read as in mon-fri 09:00-21:00")
            start, end = int(found[3]) * 60 + int(found[4]), int(found[5]) * 60 + int(found[6])
            if max(start, end) > DAY_MINUTES or int(found[4]) > 59 or int(found[6]) > 59 or start == end:
                raise ValueError(f"{item.strip()!r} has no such times of a day")
            first, last = DAYS.index(found[1]), DAYS.index(found[2] or found[1])
            days = range(first, last + 1) if first <= last else chain(range(first, len(DAYS)), range(last + 1))
            length = (end - start) % DAY_MINUTES or DAY_MINUTES
            for day in days:
                begin = day * DAY_MINUTES + start
                self._open.update(minute % (len(DAYS) * DAY_MINUTES) for minute in range(begin, begin + length))

    def holds(self, local: datetime) -> bool:
        """Whether the mall is open at a local time."""
        return local.weekday() * DAY_MINUTES + local.hour * 60 + local.minute in self._open


def read_capacity(text: str) -> tuple[tuple[str, int], ...]:
    """Numbers of people, as in `2000, north=500`: of the whole mall (an empty name), of a gate. Raises ValueError."""
    limits: dict[str, int] = {}
    for item in text.split(","):
        gate, equals, people = item.strip().rpartition("=")
        if not re.fullmatch("[1-9][0-9]{0,8}", people.strip()) or bool(equals) != bool(gate.strip()) or gate.strip() in limits:
            raise ValueError(f"{item.strip()!r} must read as in 2000 or north=500, each gate once")
        limits[gate.strip()] = int(people)
    return tuple(limits.items())
