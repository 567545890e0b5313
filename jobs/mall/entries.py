"""Entries: what a device may send, and how accepted events reach the buffer, each once."""

import functools
import hashlib
import math
import re
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Literal, NamedTuple

import msgspec
import redis.asyncio

from jobs import crash_points, keys
from jobs.errors import InvalidField, Malformed
from jobs.mall import counting
from jobs.mall.orders import field_of
from jobs.opening import OpeningHours
from jobs.queue.script import beside
from jobs.settings import Settings

INGEST = beside(__file__, "ingest")
MAX_EVENTS = 10_000
MAX_NAME = 64
MAX_EVENT_ID = 128
MAX_COUNT = 1_000
MAX_SEQ = 2**53
SEEN_MARGIN_S = 3_600
CLOCKS_APART_S = 60
BUCKETS = 32_768
"""Sets of digests in a window. Up to 512 integers a set are kept in 8 bytes each: 16 million events."""
DIGEST = struct.Struct(">Hq")
BLOCK = 1_024
"""Sequence numbers a bitmap: what a device that jumps about can cost is one such bitmap an event."""
GATE = re.compile(r"[^\x00-\x1f\x7f|]+")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]


class EntryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry as a device sends it; identified by `event_id`, or by `sensor` and `seq`."""

    gate: Annotated[Name, msgspec.Meta(extra_json_schema={"pattern": f"^{GATE.pattern}$"})]
    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_EVENT_ID)] | None = None
    sensor: Name | None = None
    seq: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)] | None = None
    at: Annotated[datetime, msgspec.Meta(extra_json_schema={"format": "date-time"})] | None = None
    direction: Literal["in", "out"] = "in"
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)] = 1


class Entry(NamedTuple):
    """A valid entry. `place` and `number` are its identity: a bucket and 63 bits and a sign, or a block of a sensor's numbers and
    the number's place in it. What it is counted into is `<minute>|<local day>|<1 if the mall is open>|<direction>|<gate>`."""

    place: str
    number: int
    counted_into: str
    people: int


_decoder = msgspec.json.Decoder(EntryRequest)


def parse(body: bytes | memoryview, *, settings: Settings, zone: tzinfo, now: float) -> Entry:
    """Reads and checks one entry. Raises Malformed, or InvalidField that names the field, the reason and the fix."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        refused = field_of(error)
        raise InvalidField(refused.field, refused.reason) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not JSON: {error}") from None
    return check(request, settings=settings, zone=zone, now=now)


def check(request: EntryRequest, *, settings: Settings, zone: tzinfo, now: float) -> Entry:
    """Checks what the types cannot say. Raises InvalidField."""
    if not GATE.fullmatch(request.gate):
        raise InvalidField("gate", "must not hold control characters or '|'")
    at = now if request.at is None else _instant(request.at, settings, now)
    moment = _moment(int(at // 60), zone, settings.opening_hours)
    place, number = _identity(request)
    return Entry(place, number, f"{moment}|{request.direction}|{request.gate}", request.count)


@functools.lru_cache(maxsize=4_096)
def _moment(minute: int, zone: tzinfo, hours: OpeningHours | None) -> str:
    """Most entries of a minute share it; what the time zone has to say is asked once."""
    moment = datetime.fromtimestamp(minute * 60, UTC)
    local = moment.astimezone(zone)
    return f"{moment:%Y-%m-%dT%H:%M}|{local:%Y-%m-%d}|{int(hours is None or hours.holds(local))}"


def _instant(at: datetime, settings: Settings, now: float) -> float:
    if at.tzinfo is None:
        raise InvalidField("at", "needs an offset, as in 2026-11-21T10:15:00Z")
    instant = at.timestamp()
    if instant > now + settings.entry_max_ahead_s:
        raise InvalidField("at", f"lies {instant - now:.0f} s ahead, at most {settings.entry_max_ahead_s:g} s are taken")
    if instant < now - settings.entry_max_age_s:
        raise InvalidField("at", f"lies {now - instant:.0f} s back, at most {settings.entry_max_age_s:g} s are taken")
    return instant


def _identity(request: EntryRequest) -> tuple[str, int]:
    if request.event_id is not None:
        if request.sensor is not None or request.seq is not None:
            raise InvalidField("event_id", "give either event_id or sensor and seq, not both")
        bucket, number = DIGEST.unpack(hashlib.blake2b(request.event_id.encode(), digest_size=DIGEST.size).digest())
        return f"e{bucket % BUCKETS}", number
    if request.sensor is None or request.seq is None:
        missing = "event_id" if request.sensor is None and request.seq is None else "seq" if request.seq is None else "sensor"
        raise InvalidField(missing, "an entry needs an event_id, or a sensor and a seq, so that a repeated one is counted once")
    return f"s{request.seq // BLOCK}|{request.sensor}", request.seq % BLOCK


def kept_until(now: float, settings: Settings) -> int:
    """When the window of `now` ends to be looked into (Unix seconds), which is also its name. Pure.

    A window is as long as a repeated event is taken, and looked into until the next one ends. No two windows have one name and
    different ends, so those of other settings, before a restart or in another process, are looked into like one's own.
    """
    width = settings.entry_max_age_s + settings.entry_max_ahead_s + SEEN_MARGIN_S
    return math.ceil((now // width + 2) * width)


async def ingest(client: redis.asyncio.Redis, entries: Sequence[Entry], *, settings: Settings, now: float) -> list[bool]:
    """Puts entries into the buffer in one round trip; True for each that was new, False for a duplicate.

    Atomic: when the reply is lost, sending the same entries again counts none twice.
    """
    job = counting.count_spec(now)
    until = kept_until(now, settings)
    sums: dict[str, int] = {}
    events: list[str | int] = []
    for place, number, counted_into, people in entries:
        events += (place, number, sums.setdefault(counted_into, len(sums) + 1), people)
    kept_s = math.ceil(until - now) + CLOCKS_APART_S
    args = [repr(now), kept_s, until, job.id, job.queue, job.fields, len(sums), *sums, *events]
    crash_points.reach("entries.asked")
    fresh = await INGEST.run(client, [keys.ENTRIES, keys.ENTRIES_BUFFER, keys.ENTRIES_JOB, keys.ENTRIES_WINDOWS], args)
    crash_points.reach("entries.written")
    return [mark == ord("1") for mark in fresh]
