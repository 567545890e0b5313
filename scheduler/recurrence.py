"""When a periodic job of a stock rq-scheduler client runs next: read from its `meta`, purely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from crontab import CronTab  # the library that rq-scheduler's clients checked their cron strings with


class Recurrence(msgspec.Struct, frozen=True):
    """What rq-scheduler 0.14.0 puts into `meta`: a cron string or an interval (s), and how many runs are left."""

    cron_string: str | None = None
    interval: int | float | None = None
    repeat: int | None = None

    def next_fire(self, fire_at: float, now: float) -> float:
        """The first fire time after `now`. Cron strings mean UTC. Raises ValueError when there is none."""
        if self.interval:
            if not 0 < self.interval < math.inf:
                raise ValueError(f"an interval of {self.interval!r} s cannot be used")
            missed = max(0, math.floor((now - fire_at) / self.interval))
            return fire_at + (missed + 1) * self.interval
        if not self.cron_string:
            raise ValueError("neither a cron string nor an interval")
        moment = CronTab(self.cron_string).next(datetime.fromtimestamp(now, UTC), return_datetime=True)
        if moment is None:
            raise ValueError(f"cron string {self.cron_string!r} never fires again")
        return float(moment.timestamp())


@dataclass(frozen=True, slots=True)
class Fire:
    """What one fire does: the next fire time (None after the last run), and `meta` (JSON) of the run and of the definition."""

    next_at: float | None
    run_meta: str
    definition_meta: str


OWN_FIELDS = ("cron_string", "interval", "repeat", "use_local_timezone")


def plan(meta: bytes, fire_at: float, now: float) -> Fire:
    """Decides what a fire does. Raises ValueError when the definition cannot be read."""
    try:
        whole = msgspec.json.decode(meta, type=dict[str, object])
        recurrence = msgspec.convert(whole, Recurrence)
    except msgspec.MsgspecError as error:
        raise ValueError(f"its meta cannot be read: {error}") from None
    next_at: float | None = recurrence.next_fire(fire_at, now)
    left = whole
    if recurrence.repeat is not None:
        if recurrence.repeat <= 1:
            next_at = None
        left = {**whole, "repeat": recurrence.repeat - 1}
    rest = {name: value for name, value in whole.items() if name not in OWN_FIELDS}
    return Fire(next_at, _encode(rest) if rest else "", _encode(left))


def _encode(meta: dict[str, object]) -> str:
    return msgspec.json.encode(meta).decode()
