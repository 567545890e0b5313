"""Entries: what a device may send, and how accepted events reach the buffer, each once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Literal

import msgspec
import redis.asyncio

from jobs import keys
from jobs.errors import InvalidField, Malformed
from jobs.mall import counting
from jobs.mall.orders import field_of
from jobs.queue.script import beside
from jobs.settings import Settings

INGEST = beside(__file__, "ingest")
MAX_EVENTS = 10_000
MAX_NAME = 64
MAX_EVENT_ID = 128
MAX_COUNT = 1_000
MAX_SEQ = 2**53
SEEN_MARGIN_S = 3_600
GATE = re.compile(r"[^\x00-\x1f\x7f|]+")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]


class EntryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry as a device sends it; identified by `event_id`, or by `sensor` and `seq`."""

    gate: Name
    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_EVENT_ID)] | None = None
    sensor: Name | None = None
    seq: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)] | None = None
    at: datetime | None = None
    direction: Literal["in", "out"] = "in"
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)] = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A valid entry, ready for the buffer. `identity` is what makes it a duplicate: `e<event_id>` or `s<seq>|<sensor>`."""

    identity: str
    minute: str
    day: str
    direction: str
    count: int
    gate: str

    def record(self, accepted_at: float) -> str:
        """The event as the buffer keeps it; the gate comes last since it may hold anything but a bar."""
        return f"{self.minute}|{self.day}|{self.direction}|{self.count}|{accepted_at:.3f}|{self.gate}"


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
    moment = datetime.fromtimestamp(at, UTC)
    return Entry(
        identity=_identity(request),
        minute=moment.strftime("%Y-%m-%dT%H:%M"),
        day=moment.astimezone(zone).strftime("%Y-%m-%d"),
        direction=request.direction,
        count=request.count,
        gate=request.gate,
    )


def _instant(at: datetime, settings: Settings, now: float) -> float:
    if at.tzinfo is None:
        raise InvalidField("at", "needs an offset, as in 2026-11-21T10:15:00Z")
    instant = at.timestamp()
    if instant > now + settings.entry_max_ahead_s:
        raise InvalidField("at", f"lies {instant - now:.0f} s ahead, at most {settings.entry_max_ahead_s:g} s are taken")
    if instant < now - settings.entry_max_age_s:
        raise InvalidField("at", f"lies {now - instant:.0f} s back, at most {settings.entry_max_age_s:g} s are taken")
    return instant


def _identity(request: EntryRequest) -> str:
    if request.event_id is not None:
        if request.sensor is not None or request.seq is not None:
            raise InvalidField("event_id", "give either event_id or sensor and seq, not both")
        return f"e{request.event_id}"
    if request.sensor is None or request.seq is None:
        missing = "event_id" if request.sensor is None and request.seq is None else "seq" if request.seq is None else "sensor"
        raise InvalidField(missing, "an entry needs an event_id, or a sensor and a seq, so that a repeated one is counted once")
    return f"s{request.seq}|{request.sensor}"


async def ingest(client: redis.asyncio.Redis, entries: Sequence[Entry], *, settings: Settings, now: float) -> list[bool]:
    """Puts entries into the buffer in one round trip; True for each that was new, False for a duplicate.

    Atomic: when the reply is lost, sending the same entries again counts none twice.
    """
    job = counting.count_spec(now)
    ttl_s = int(settings.entry_max_age_s + settings.entry_max_ahead_s) + SEEN_MARGIN_S
    args: list[str | int] = [repr(now), ttl_s, job.id, job.queue, job.fields]
    for entry in entries:
        args.append(entry.identity)
        args.append(entry.record(now))
    fresh = await INGEST.run(client, [keys.ENTRIES, keys.ENTRIES_BUFFER, keys.ENTRIES_JOB], args)
    return [mark == ord("1") for mark in fresh]
