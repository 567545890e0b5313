"""What the demo will send and what must come of it: pure, so that every expected figure is computed from the data.

A device either sends each entry as it happens or collects a half hour into one NDJSON batch. As
devices do, it sends some events again (same event_id) and now and then a broken line.
"""

import random
from collections.abc import Sequence
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


class Line(msgspec.Struct, frozen=True):
    """One entry as it goes over the wire; a broken one has no gate."""

    body: bytes
    broken: bool = False


class EntryPost(msgspec.Struct, frozen=True):
    """One POST /v1/entries, due `due_s` real seconds after the start; `batch` says NDJSON."""

    due_s: float
    lines: tuple[Line, ...]
    batch: bool


class Day(msgspec.Struct, frozen=True):
    """The replay's clock: `speed` seconds of the day pass in one real second from `started_at` (Unix seconds) on."""

    started_at: float
    speed: float

    @property
    def lasts_s(self) -> float:
        """Real seconds that the whole day takes."""
        return DAY_S / self.speed

    def at(self, day_s: float) -> float:
        """The Unix time that an entry `day_s` seconds into the day carries; never ahead of the moment it is sent."""
        return self.started_at + self.lasts_s - WINDOW_S * (1 - day_s / DAY_S)


class Expected(msgspec.Struct, frozen=True):
    """What must come of the plan. `entries` are distinct and valid, `again` their repetitions."""

    entries: int
    again: int
    broken: int
    orders_accepted: int
    orders_refused: int


def plan_entries(slots: Sequence[Slot], day: Day, run_id: str, gate: str) -> list[EntryPost]:
    """The posts of one day in order of time; the same run id spreads the people over their slots in the same way."""
    rng = random.Random(run_id)
    serial = count(1)
    posts: list[EntryPost] = []
    for slot_number, slot in enumerate(slots):
        times = sorted(slot.start_s + rng.random() * SLOT_S for _ in range(slot.entries))
        sent = [pair for time_s in times for pair in _lines(next(serial), run_id, day, time_s, gate)]
        if slot_number % 2 == 0:
            posts += [EntryPost(day_s / day.speed, (line,), False) for day_s, line in sent]
        elif sent:
            posts.append(EntryPost((slot.start_s + SLOT_S) / day.speed, tuple(line for _, line in sent), True))
    return sorted(posts, key=lambda post: post.due_s)


def expect(slots: Sequence[Slot], posts: Sequence[EntryPost], orders: Sequence[SampleOrder]) -> Expected:
    """The figures that the replay must end with. The people come from the record itself, not from the plan."""
    people = sum(slot.entries for slot in slots)
    lines = [line for post in posts for line in post.lines]
    broken = sum(line.broken for line in lines)
    refused = sum(order.refusable for order in orders)
    return Expected(people, len(lines) - people - broken, broken, len(orders) - refused, refused)


def rfc3339(at: float) -> str:
    """Unix seconds as the API takes them."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _lines(number: int, run_id: str, day: Day, time_s: float, gate: str) -> list[tuple[float, Line]]:
    """One person's entry, and what the device adds on some numbers: the entry again, a broken one; with the time of sending."""
    event = {"gate": gate, "event_id": f"{run_id}-{number:05}", "direction": "in", "at": rfc3339(day.at(time_s))}
    broken = {**event, "gate": "", "event_id": f"{run_id}-{number:05}-broken"}
    entry = Line(msgspec.json.encode(event))
    lines = [(time_s, entry)]
    if number % AGAIN_EVERY == 0:
        lines.append((time_s + AGAIN_AFTER_S, entry))
    if number % BROKEN_EVERY == 0:
        lines.append((time_s, Line(msgspec.json.encode(broken), broken=True)))
    return lines
