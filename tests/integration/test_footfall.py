"""The counted series: by minute, hour and day, from minutes and, where those are gone, from hours."""

import json
import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import redis
from asking import Ask
from hands import Hands

from jobs.errors import InvalidField
from jobs.mall import entries, footfall, reports
from jobs.mall.footfall import Bucket, Series, Totals
from jobs.settings import Settings

NOW = datetime(2025, 11, 21, 22, 30, 5, tzinfo=UTC).timestamp()
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
Send = Callable[..., list[bool]]


@pytest.fixture
def send(redis_client: redis.Redis, ask: Ask, settings: Settings) -> Send:
    """Sends events in one request; says of each whether it was new."""

    def sent(*events: dict[str, Any], now: float = NOW) -> list[bool]:
        parsed = [
            entries.parse(json.dumps({"gate": "north", **event}).encode(), settings=settings, zone=BERLIN, now=now)
            for event in events
        ]
        return ask(partial(entries.ingest, entries=parsed, settings=settings, now=now))

    return sent


def series(ask: Ask, start: str, end: str, bucket: str, gate: str | None = None, minutes_from: str = "2025-01-01") -> Series:
    def at(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    return ask(partial(footfall.series, start=at(start), end=at(end), bucket=bucket, gate=gate, minutes_from=at(minutes_from)))


@pytest.fixture
def _counted(hands: Hands, send: Send) -> None:
    send(
        {"event_id": "e1", "at": "2025-11-21T09:59:59Z", "count": 2},
        {"event_id": "e2", "at": "2025-11-21T10:00:00Z", "count": 3},
        {"event_id": "e3", "at": "2025-11-21T10:05:00Z", "direction": "out", "gate": "south"},
        {"event_id": "e4", "at": "2025-11-20T23:00:00Z", "count": 5},
    )
    hands.work_off("entries")


@pytest.mark.usefixtures("_counted")
def test_the_series_shows_what_was_counted_by_minute_hour_and_day(ask: Ask) -> None:
    minutes = series(ask, "2025-11-21T10:00", "2025-11-21T10:05", "minute")
    assert minutes.buckets == [Bucket("2025-11-21T10:00:00Z", 3, 0)]
    hours = series(ask, "2025-11-20T00:00", "2025-11-22T00:00", "hour")
    assert hours.buckets == [
        Bucket("2025-11-20T23:00:00Z", 5, 0),
        Bucket("2025-11-21T09:00:00Z", 2, 0),
        Bucket("2025-11-21T10:00:00Z", 3, 1),
    ]
    days = series(ask, "2025-11-20T00:00", "2025-11-22T00:00", "day")
    assert days.buckets == [Bucket("2025-11-20T00:00:00Z", 5, 0), Bucket("2025-11-21T00:00:00Z", 5, 1)]
    assert days.totals == hours.totals == Totals(10, 1)
    assert series(ask, "2025-11-20T00:00", "2025-11-22T00:00", "day", gate="south").totals == Totals(0, 1)


@pytest.mark.usefixtures("_counted")
def test_old_days_answer_from_the_hours(ask: Ask, redis_client: redis.Redis) -> None:
    reports.roll_up()
    redis_client.delete("turnstile:footfall:minute:2025-11-20")
    found = series(ask, "2025-11-20T00:00", "2025-11-22T00:00", "day", minutes_from="2025-11-21")
    assert found.buckets == [Bucket("2025-11-20T00:00:00Z", 5, 0), Bucket("2025-11-21T00:00:00Z", 5, 1)]


@pytest.mark.parametrize(
    ("start", "end", "bucket", "field"),
    [
        ("2025-11-21", "2025-11-21", "day", "to"),
        ("2025-11-21", "2025-11-20", "day", "to"),
        ("2025-01-01", "2025-02-01", "minute", "from"),
    ],
)
def test_a_span_that_makes_no_sense_or_is_too_long_is_refused(
    ask: Ask, redis_client: redis.Redis, start: str, end: str, bucket: str, field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        series(ask, start, end, bucket)
    assert caught.value.field == field
