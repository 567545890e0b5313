"""When the mall is open, and how many people it holds."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.mall import entries
from jobs.mall.alerts import Crowd, crowds
from jobs.mall.footfall import Summary, Today, Totals
from jobs.opening import OpeningHours, read_capacity
from jobs.settings import Settings

MONDAY = datetime(2026, 11, 16)


@pytest.mark.parametrize(
    ("text", "day", "time", "is_open"),
    [
        ("mon-sat 09:00-21:00", 0, "09:00", True),
        ("mon-sat 09:00-21:00", 0, "08:59", False),
        ("mon-sat 09:00-21:00", 5, "20:59", True),
        ("mon-sat 09:00-21:00", 5, "21:00", False),
        ("mon-sat 09:00-21:00", 6, "12:00", False),
        ("Mon 09:00-12:00, mon 13:00-24:00", 0, "12:30", False),
        ("mon 09:00-12:00,mon 13:00-24:00", 0, "23:59", True),
        ("sun 20:00-02:00", 0, "01:59", True),
        ("sat-mon 10:00-11:00", 6, "10:30", True),
        ("sat-mon 10:00-11:00", 1, "10:30", False),
        ("mon-sun 00:00-24:00", 3, "03:00", True),
    ],
)
def test_the_mall_is_open_within_its_spans(text: str, day: int, time: str, is_open: bool) -> None:
    hour, minute = map(int, time.split(":"))
    assert OpeningHours(text).holds(MONDAY + timedelta(days=day, hours=hour, minutes=minute)) is is_open


@pytest.mark.parametrize(
    "text", ["", "mon", "mon 9-21", "mon 09:00-25:00", "mon 09:00-09:00", "xyz 09:00-10:00", "mon 09:60-10:00"]
)
def test_hours_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must read|no such times"):
        OpeningHours(text)


def test_a_capacity_is_of_the_mall_or_of_a_gate() -> None:
    assert read_capacity("2000, north=500,a=b=3") == (("", 2000), ("north", 500), ("a=b", 3))
    for text in ("", "0", "x", "=5", "north=", "5,6", "-1"):
        with pytest.raises(ValueError, match="must read"):
            read_capacity(text)


def test_a_crowd_is_more_people_than_the_capacity() -> None:
    people = Summary(0, 0, 0, 0.0, 11, Today("2026-11-21", 15, 4), {"north": Totals(6, 1), "south": Totals(9, 3)})
    assert list(crowds(people, (("", 11), ("north", 5), ("south", 5), ("east", 1)))) == [Crowd("south", 6, 5)]
    assert list(crowds(people, (("", 10),))) == [Crowd("", 11, 10)]


@given(
    st.floats(0, 4e9),
    st.floats(0, 1),
    st.floats(-entries.CLOCKS_APART_S, entries.CLOCKS_APART_S),
    st.integers(1, 7 * 86_400),
)
def test_what_was_noted_is_kept_for_as_long_as_its_repeat_is_taken(at: float, share: float, skew: float, max_age_s: int) -> None:
    """Two web processes whose clocks differ take the same event, the second as late as it would still be taken."""
    settings = Settings(entry_max_age_s=max_age_s)
    later = at + share * (max_age_s + settings.entry_max_ahead_s)
    assert entries.kept_until(at, settings) > later + skew
