"""Entries, the pure part: what a device may send, each refusal with its field, and the record for the buffer."""

import json
import zoneinfo
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import InvalidField, Malformed
from jobs.mall import entries
from jobs.mall.entries import Entry
from jobs.settings import Settings

NOW = datetime(2026, 11, 21, 22, 30, 5, tzinfo=UTC).timestamp()
SETTINGS = Settings()
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def parse(body: Any) -> Entry:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return entries.parse(data, settings=SETTINGS, zone=BERLIN, now=NOW)


def refused(body: Any) -> tuple[str, str]:
    with pytest.raises(InvalidField) as caught:
        parse(body)
    return caught.value.field, caught.value.reason


def test_an_entry_without_a_time_happened_now_on_the_malls_own_day() -> None:
    assert parse({"gate": "north", "event_id": "e1"})[2:] == ("2026-11-21T22:30|2026-11-21|1|in|north", 1)


def test_a_local_time_belongs_to_a_utc_minute_and_to_the_malls_day() -> None:
    found = parse({"gate": "n", "event_id": "e", "at": "2026-11-21T00:10:00+01:00", "direction": "out", "count": 3})
    assert found[2:] == ("2026-11-20T23:10|2026-11-21|1|out|n", 3)


def test_sensor_and_sequence_number_identify_an_entry_as_well() -> None:
    assert parse({"gate": "n", "sensor": "s|1", "seq": 70_000})[:2] == ("s68|s|1", 368)


@pytest.mark.parametrize("at", ["2026-11-20T22:30:06Z", "2026-11-21T22:31:05Z"])
def test_the_oldest_and_the_newest_time_that_are_taken(at: str) -> None:
    assert parse({"gate": "n", "event_id": "e", "at": at}).counted_into.startswith(at[:16])


GOOD = {"gate": "n", "event_id": "e"}


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"event_id": "e"}, "gate", "missing required field `gate`"),
        ({**GOOD, "gate": ""}, "gate", "length >= 1"),
        ({**GOOD, "gate": "a|b"}, "gate", "must not hold control characters or '|'"),
        ({**GOOD, "gate": "a\nb"}, "gate", "must not hold control characters or '|'"),
        ({**GOOD, "gate": "x" * 65}, "gate", "length <= 64"),
        ({**GOOD, "gate": 3}, "gate", "Expected `str`"),
        ({"gate": "n"}, "event_id", "an entry needs an event_id, or a sensor and a seq"),
        ({"gate": "n", "sensor": "s"}, "seq", "an entry needs"),
        ({"gate": "n", "seq": 1}, "sensor", "an entry needs"),
        ({**GOOD, "sensor": "s", "seq": 1}, "event_id", "not both"),
        ({"gate": "n", "sensor": "s", "seq": -1}, "seq", ">= 0"),
        ({"gate": "n", "sensor": "s", "seq": 2**53 + 1}, "seq", "<= 9007199254740992"),
        ({**GOOD, "count": 0}, "count", ">= 1"),
        ({**GOOD, "count": 1001}, "count", "<= 1000"),
        ({**GOOD, "count": 1.5}, "count", "Expected `int`"),
        ({**GOOD, "direction": "up"}, "direction", "Invalid enum value 'up'"),
        ({**GOOD, "at": "2026-11-21T22:30:00"}, "at", "needs an offset, as in 2026-11-21T10:15:00Z"),
        ({**GOOD, "at": "2026-11-20T22:30:04Z"}, "at", "lies 86401 s back, at most 86400 s are taken"),
        ({**GOOD, "at": "2026-11-21T22:31:06Z"}, "at", "lies 61 s ahead, at most 60 s are taken"),
        ({**GOOD, "at": "0001-01-01T00:00:00+23:59"}, "at", "s back, at most"),
        ({**GOOD, "at": "9999-12-31T23:59:59-23:59"}, "at", "s ahead, at most"),
        ({**GOOD, "at": "yesterday"}, "at", "Invalid RFC3339"),
        ({**GOOD, "colour": "red"}, "colour", "unknown field `colour`"),
        ([GOOD], "body", "Expected `object`, got `array`"),
    ],
)
def test_a_bad_entry_is_refused_by_field_with_the_reason(body: Any, field: str, reason: str) -> None:
    named, said = refused(body)
    assert named == field
    assert reason in said


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"gate": "\xff"}', b'{"gate": "n"} x'])
def test_a_body_that_is_no_json_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(Malformed, match="not JSON"):
        parse(body)


TEXT = st.text(st.characters(), max_size=70)  # lone surrogates too, as a device may send them
ANY = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.datetimes(timezones=st.none() | st.timezones()).map(str)
)


@given(
    st.fixed_dictionaries(
        {"gate": TEXT}, optional=dict.fromkeys(("event_id", "sensor", "seq", "at", "direction", "count", "x"), ANY)
    )
)
def test_whatever_a_device_sends_is_taken_or_refused_by_field(body: dict[str, Any]) -> None:
    try:
        found = parse(body)
    except Malformed:
        assert any("\ud800" <= letter <= "\udfff" for letter in json.dumps(body, ensure_ascii=False))
    except InvalidField as error:
        assert error.field and error.reason
    else:
        assert len(found.counted_into.split("|")) == 5
        assert found.place.startswith("e") or 0 <= found.number < entries.BLOCK
        assert -(2**63) <= found.number < 2**63


@given(st.binary(max_size=50))
def test_no_body_crashes_the_reader(body: bytes) -> None:
    with pytest.raises((InvalidField, Malformed)):
        parse(body)
