"""When periodic jobs of rq-scheduler's clients fire next."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.foreign import ALIASES, Timing

INSTANT = st.floats(1e9, 2e9)


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose zone is New York's."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@given(INSTANT, st.floats(0, 1e8), st.one_of(st.integers(1, 10**8), st.floats(0.1, 1e8)))
def test_the_next_fire_of_an_interval_lies_ahead_and_in_its_rhythm(fire_at: float, late_s: float, interval: float) -> None:
    now = fire_at + late_s
    next_at = Timing(interval=interval).next_fire(fire_at, now)
    assert now < next_at + 1e-6 and next_at <= now + interval + 1e-6
    rounds = (next_at - fire_at) / interval
    assert rounds >= 1 - 1e-6
    assert abs(rounds - round(rounds)) * interval < 1e-4


@given(INSTANT, INSTANT)
def test_the_next_fire_of_a_cron_string_is_the_first_after_both(fire_at: float, now: float) -> None:
    after = max(fire_at, now)
    next_at = Timing(cron_string="*/5 * * * *").next_fire(fire_at, now)
    assert next_at == after // 300 * 300 + 300


@pytest.mark.usefixtures("in_new_york")
@pytest.mark.parametrize(
    ("cron_string", "now", "expected"),
    [
        ("0 12 * * *", "2026-03-07T17:00:00+00:00", "2026-03-08T16:00:00+00:00"),  # spring: noon comes an hour sooner
        ("30 2 * * *", "2026-03-07T08:00:00+00:00", "2026-03-08T07:00:00+00:00"),  # 02:30 is skipped: 03:00 is the next minute
        ("0 12 * * *", "2026-10-31T16:00:00+00:00", "2026-11-01T17:00:00+00:00"),  # autumn
        ("30 1 * * *", "2026-11-01T05:30:00+00:00", "2026-11-02T06:30:00+00:00"),  # 01:30 comes twice and fires once
        ("*/30 * * * *", "2026-11-01T05:30:00+00:00", "2026-11-01T06:00:00+00:00"),  # but every half hour is every half hour
        ("*/30 * * * *", "2026-11-01T06:00:00+00:00", "2026-11-01T06:30:00+00:00"),
    ],
)
def test_the_local_zone_is_the_machines_with_its_summer_time(cron_string: str, now: str, expected: str) -> None:
    local = Timing(cron_string=cron_string, use_local_timezone=True).next_fire(0.0, at(now))
    assert datetime.fromtimestamp(local, UTC).isoformat() == expected


@pytest.mark.usefixtures("in_new_york")
def test_without_the_local_zone_it_is_utc_on_every_machine() -> None:
    for flag in (False, None):
        next_at = Timing(cron_string="0 12 * * *", use_local_timezone=flag).next_fire(0.0, at("2026-03-07T13:00:00+00:00"))
        assert next_at == at("2026-03-08T12:00:00+00:00")


@pytest.mark.parametrize("alias", ALIASES)
def test_the_names_of_rq_schedulers_cron_mean_the_same(alias: str) -> None:
    now = at("2026-06-17T10:30:00+00:00")
    expected = {"@hourly": "2026-06-17T11", "@daily": "2026-06-18T00", "@weekly": "2026-06-21T00", "@monthly": "2026-07-01T00"}
    next_at = Timing(cron_string=alias).next_fire(0.0, now)
    assert next_at == at(expected.get(alias, "2027-01-01T00") + ":00:00+00:00")


@pytest.mark.parametrize(
    "timing",
    [
        *(Timing(cron_string=text) for text in ("", "x", "* * * *", "0 0 0 1 1 *", "0 0 31 2 *", "61 * * * *")),
        *(Timing(interval=interval) for interval in (None, 0, -1, float("nan"))),
    ],
)
def test_times_that_cannot_be_read_say_so(timing: Timing) -> None:
    with pytest.raises(ValueError, match=r"cron string|interval|NaN"):
        timing.next_fire(0.0, 0.0)
