"""The counted series and the summary.

Minutes are kept for `minutes_keep_days`; older days answer from the hourly roll-up. Buckets are UTC,
"today" is the mall's own day.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec
import redis.asyncio

from jobs import keys
from jobs.errors import InvalidField

MAX_BUCKETS = 10_000
STEPS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}


class Totals(msgspec.Struct, rename={"in_": "in"}):
    """People in and out."""

    in_: int = 0
    out: int = 0

    def add(self, direction: str, people: int) -> None:
        """Adds people in one direction."""
        if direction == "in":
            self.in_ += people
        else:
            self.out += people


class Bucket(msgspec.Struct, rename={"in_": "in"}):
    """One bucket of the series; `start` is RFC 3339 in UTC."""

    start: str
    in_: int
    out: int


class Series(msgspec.Struct):
    """The answer of GET /v1/footfall. Buckets in which nobody passed are left out."""

    buckets: list[Bucket]
    totals: Totals


class Today(msgspec.Struct, rename={"in_": "in"}):
    """The mall's own day so far."""

    date: str
    in_: int
    out: int


class Summary(msgspec.Struct):
    """accepted = counted + pending, in events; `lag_s` is the age of the oldest pending event; the rest is people, today."""

    accepted: int
    counted: int
    pending: int
    lag_s: float
    occupancy: int
    today: Today
    by_gate: dict[str, Totals]


def events_in(records: Iterable[bytes]) -> int:
    """How many events records of the buffer stand for."""
    return sum(int(record.split(b"|", 2)[1]) for record in records)


async def summary(client: redis.asyncio.Redis, *, zone: tzinfo, now: float) -> Summary:
    """The state of the count, in one snapshot."""
    date = datetime.fromtimestamp(now, zone).strftime("%Y-%m-%d")
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.hmget(keys.ENTRIES, "accepted", "counted")
        pipeline.lindex(keys.ENTRIES_BUFFER, 0)
        pipeline.hgetall(keys.GATES_PREFIX + date)
        numbers, oldest, sums = await pipeline.execute()
    accepted, counted = (int(number or 0) for number in numbers)
    by_gate: dict[str, Totals] = defaultdict(Totals)
    total = Totals()
    for field, people in sums.items():
        direction, _, gate = field.decode().partition("|")
        by_gate[gate].add(direction, int(people))
        total.add(direction, int(people))
    lag_s = max(0.0, now - float(oldest.decode().split("|")[0])) if oldest else 0.0
    return Summary(
        accepted=accepted,
        counted=counted,
        pending=accepted - counted,
        lag_s=round(lag_s, 3),
        occupancy=max(0, total.in_ - total.out),
        today=Today(date, total.in_, total.out),
        by_gate=dict(sorted(by_gate.items())),
    )


async def series(
    client: redis.asyncio.Redis, *, start: datetime, end: datetime, bucket: str, gate: str | None, minutes_from: datetime
) -> Series:
    """The counted series of [start, end). Days before `minutes_from` answer from the hours. Raises InvalidField."""
    step = STEPS[bucket]
    if end <= start:
        raise InvalidField("to", "must be later than from")
    if math.ceil((end - start) / step) > MAX_BUCKETS:
        raise InvalidField("from", f"the span holds more than {MAX_BUCKETS} buckets of a {bucket}")
    days = list(_days(start, end))
    async with client.pipeline(transaction=False) as pipeline:
        for day in days:
            prefix = keys.MINUTES_PREFIX if day >= minutes_from else keys.HOURS_PREFIX
            pipeline.hgetall(f"{prefix}{day:%Y-%m-%d}")
        answers = await pipeline.execute()
    found: dict[datetime, Totals] = defaultdict(Totals)
    totals = Totals()
    for day, sums in zip(days, answers, strict=True):
        for moment, direction, people in _read(day, sums, gate):
            if start <= moment < end:
                found[moment - (moment - day) % step].add(direction, people)
                totals.add(direction, people)
    buckets = [Bucket(f"{at:%Y-%m-%dT%H:%M:%SZ}", sums.in_, sums.out) for at, sums in sorted(found.items())]
    return Series(buckets, totals)


def _days(start: datetime, end: datetime) -> Iterator[datetime]:
    day = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < end:
        yield day
        day += timedelta(days=1)


def _read(day: datetime, sums: Mapping[bytes, bytes], gate: str | None) -> Iterator[tuple[datetime, str, int]]:
    for field, people in sums.items():
        time, direction, name = field.decode().split("|", 2)
        if gate is None or name == gate:
            hour, _, minute = time.partition(":")
            yield day + timedelta(hours=int(hour), minutes=int(minute or 0)), direction, int(people)
