"""The carrier's Retry-After: seconds or a date, never more than an hour, never a crash."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.mall.carrier import MAX_RETRY_AFTER_S, retry_after_s

NOW = 1_763_764_200.0  # Fri, 21 Nov 2025 22:30:00 GMT


@pytest.mark.parametrize(
    ("header", "delay_s"),
    [
        (None, None),
        ("0", 0.0),
        ("2.5", 2.5),
        ("120", 120.0),
        ("999999", MAX_RETRY_AFTER_S),
        ("-3", 0.0),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Fri, 21 Nov 2025 22:31:30 GMT", 90.0),
        ("Fri, 21 Nov 2025 22:31:30 -0000", 90.0),
        ("Fri, 21 Nov 2025 21:00:00 GMT", 0.0),
        ("Fri, 21 Nov 9999 22:31:30 GMT", MAX_RETRY_AFTER_S),
    ],
)
def test_the_delay_that_is_asked_for(header: str | None, delay_s: float | None) -> None:
    assert retry_after_s(header, NOW) == delay_s


def test_a_date_means_the_same_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert retry_after_s("Fri, 21 Nov 2025 22:31:30 GMT", NOW) == 90.0
        assert retry_after_s("Fri, 21 Nov 2025 22:31:30 -0000", NOW) == 90.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(), st.floats(0, 1e10))
def test_no_header_crashes_the_reader(header: str, now: float) -> None:
    delay_s = retry_after_s(header, now)
    assert delay_s is None or 0 <= delay_s <= MAX_RETRY_AFTER_S


@given(
    st.from_regex(
        r"(Fri, )?[0-9]{1,3} (Nov|Feb|Xxx) [0-9]{1,6} [0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,3})? ?([+-][0-9]{1,6}|GMT|EST)?",
        fullmatch=True,
    )
)
def test_no_date_crashes_the_reader(header: str) -> None:
    delay_s = retry_after_s(header, NOW)
    assert delay_s is None or 0 <= delay_s <= MAX_RETRY_AFTER_S
