"""What the demo will send: pure, computed from the data.

A device either sends each entry as it happens or collects a half hour into one NDJSON batch. As
devices do, it sends some events again (same event_id) and now and then a broken line.
"""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count

import msgspec

DAY_S = 86_400
SLOT_S = 1_800
WINDOW_S = DAY_S - 3_600
"""The day is laid over the last 23 hours: its first entries must not grow too old (24 h) while they are retried."""

AGAIN_EVERY = 10
AGAIN_AFTER_S = 600
"""Seconds of the day after which a device that got no answer sends a single entry again."""

BROKEN_EVERY = 12


class Run(msgspec.Struct, frozen=True):
    """One replay and its clock: `speed` seconds of the day pass in one real second from `started_at` (Unix seconds) on."""

    id: str
    started_at: float
    speed: float

    @property
    def gate(self) -> str:
        """A gate that no other run counts at."""
        return f"north-{self.id}"

    @property
    def lasts_s(self) -> float:
        """Real seconds that the whole day takes."""
        return DAY_S / self.speed

    def at(self, day_s: float) -> float:
        """The Unix time that an entry `day_s` seconds into the day carries; never ahead of the moment it is sent."""
        return self.started_at + self.lasts_s - WINDOW_S * (1 - day_s / DAY_S)


class EntryPost(msgspec.Struct, frozen=True):
    """One POST /v1/entries, due `due_s` real seconds after the start; several lines go as NDJSON.

    `broken` are the numbers, from 1, of the lines that have no gate.
    """

    due_s: float
    lines: tuple[bytes, ...]
    broken: tuple[int, ...]


def plan_entries(slots: Sequence[int], run: Run) -> list[EntryPost]:
    """The posts of one day in order of time; the same run id spreads the people over their half hours in the same way."""
    rng, serial, posts = random.Random(run.id), count(1), list[EntryPost]()
    for slot, people in enumerate(slots):
        times = sorted((slot + rng.random()) * SLOT_S for _ in range(people))
        sent = [line for time_s in times for line in _lines(next(serial), run, time_s)]
        if slot % 2 == 0:
            posts += [EntryPost(day_s / run.speed, (line,), (1,) if is_broken else ()) for day_s, line, is_broken in sent]
        elif sent:
            broken = tuple(number for number, (_, _, is_broken) in enumerate(sent, start=1) if is_broken)
            posts.append(EntryPost((slot + 1) * SLOT_S / run.speed, tuple(line for _, line, _ in sent), broken))
    return sorted(posts, key=lambda post: post.due_s)


def _lines(number: int, run: Run, time_s: float) -> list[tuple[float, bytes, bool]]:
    """One person's entry, and what the device adds on some numbers: the entry again, a broken one. When, what, whether broken."""
    at = datetime.fromtimestamp(run.at(time_s), UTC).isoformat(timespec="milliseconds")
    event = {"gate": run.gate, "event_id": f"{run.id}-{number:05}", "direction": "in", "at": at}
    entry = msgspec.json.encode(event)
    lines = [(time_s, entry, False)]
    if number % AGAIN_EVERY == 0:
        lines.append((time_s + AGAIN_AFTER_S, entry, False))
    if number % BROKEN_EVERY == 0:
        lines.append((time_s, msgspec.json.encode({**event, "gate": "", "event_id": f"{run.id}-{number:05}-broken"}), True))
    return lines
