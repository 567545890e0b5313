"""What the demo will send and what must come of it: pure, so that every expected figure is computed from the data.

A device either sends each entry as it happens or collects a half hour into one NDJSON batch. As
devices do, it sends some events again (same event_id) and now and then a broken line.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

import msgspec

from jobs.demo.sample import SLOT_S, SampleOrder, Slot

DAY_S = 86_400
WINDOW_S = DAY_S - 3_600
"""The day is laid over the last 23 hours: its first entries must not grow too old (24 h) while they are retried."""

AGAIN_EVERY = 10
AGAIN_AFTER_S = 600
"""Seconds of the day after which a device that got no answer sends a single entry again."""

BROKEN_EVERY = 12
BAD_GATE, FUTURE = "bad gate", "future time"
FUTURE_S = 2 * DAY_S
"""Beyond every clock error that a system can be configured to take."""


@dataclass(frozen=True, slots=True)
class Line:
    """One entry as it goes over the wire; `broken` says what is wrong with it on purpose."""

    body: bytes
    broken: str = ""


@dataclass(frozen=True, slots=True)
class EntryPost:
    """One POST /v1/entries, due `due_s` real seconds after the start; `batch` says NDJSON."""

    due_s: float
    lines: tuple[Line, ...]
    batch: bool


@dataclass(frozen=True, slots=True)
class Day:
    """The replay's clock: `speed` seconds of the day pass in one real second from `started_at` (Unix seconds) on."""

    started_at: float
    speed: float

    @property
    def lasts_s(self) -> float:
        """Real seconds that the whole day takes."""
        return DAY_S / self.speed

    @property
    def ends_at(self) -> float:
        """The instant on which the day's midnight is laid: the end of the replay."""
        return self.started_at + self.lasts_s

    @property
    def begins_at(self) -> float:
        """The instant on which the day's first second is laid."""
        return self.ends_at - WINDOW_S

    def at(self, day_s: float) -> float:
        """The Unix time that an entry `day_s` seconds into the day carries; never ahead of the moment it is sent."""
        return self.begins_at + day_s * WINDOW_S / DAY_S


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come of the plan. `entries` are distinct and valid, `again` their repetitions, `broken` by kind."""

    entries: int
    again: int
    broken: Counter[str]
    orders_accepted: int
    orders_refused: int

    @property
    def entries_sent(self) -> int:
        """Every line that goes over the wire."""
        return self.entries + self.again + self.broken.total()


def plan_entries(slots: Sequence[Slot], day: Day, run_id: str, gate: str) -> list[EntryPost]:
    """The posts of one day in order of time; the same run id spreads the people over their slots in the same way."""
    rng = random.Random(run_id)
    serial = count(1)
    posts: list[EntryPost] = []
    for number, slot in enumerate(slots):
        times = sorted(slot.start_s + rng.random() * SLOT_S for _ in range(slot.entries))
        groups = [_lines(f"{run_id}-{next(serial):05}", day, time_s, gate) for time_s in times]
        if number % 2:
            batch = tuple(line for group in groups for line in group)
            if batch:
                posts.append(EntryPost((slot.start_s + SLOT_S) / day.speed, batch, True))
            continue
        for time_s, group in zip(times, groups, strict=True):
            for n, line in enumerate(group):
                waited_s = AGAIN_AFTER_S if n and line is group[0] else 0
                posts.append(EntryPost((time_s + waited_s) / day.speed, (line,), False))
    return sorted(posts, key=lambda post: post.due_s)


def expect(slots: Sequence[Slot], posts: Sequence[EntryPost], orders: Sequence[SampleOrder]) -> Expected:
    """The figures that the replay must end with. The people come from the record itself, not from the plan."""
    people = sum(slot.entries for slot in slots)
    lines = [line for post in posts for line in post.lines]
    broken = Counter(line.broken for line in lines if line.broken)
    refused = sum(order.refusable for order in orders)
    return Expected(people, len(lines) - people - broken.total(), broken, len(orders) - refused, refused)


def rfc3339(at: float) -> str:
    """Unix seconds as the API takes them."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lines(event_id: str, day: Day, time_s: float, gate: str) -> list[Line]:
    """One person's entry, and behind it what the device adds on its number: the entry again, or a broken one."""
    number = int(event_id.rpartition("-")[2])
    entry = Line(_body(gate, event_id, day.at(time_s)))
    lines = [entry]
    if number % AGAIN_EVERY == 0:
        lines.append(entry)
    if number % BROKEN_EVERY == 0:
        if number // BROKEN_EVERY % 2:
            lines.append(Line(_body("", f"{event_id}-broken", day.at(time_s)), BAD_GATE))
        else:
            lines.append(Line(_body(gate, f"{event_id}-broken", day.ends_at + FUTURE_S), FUTURE))
    return lines


def _body(gate: str, event_id: str, at: float) -> bytes:
    return msgspec.json.encode({"gate": gate, "event_id": event_id, "direction": "in", "at": rfc3339(at)})
