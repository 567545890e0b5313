"""Rates: read, written and refused; the names of queues with a priority."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.queue.limits import Limits, Rate, parse_rate
from jobs.queue.priorities import base, served

COUNTS = st.integers(1, 9_999_999_000).map(lambda thousandths: thousandths / 1000)
RATES = st.builds(Rate, COUNTS, st.sampled_from("smh"))


@given(RATES)
def test_a_rate_is_read_as_it_was_written(rate: Rate) -> None:
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize(("text", "per_s"), [("50/s", 50), ("30/m", 0.5), ("36/h", 0.01), ("0.5/s", 0.5), ("007/s", 7)])
def test_a_rate_counts_starts_in_a_second_a_minute_or_an_hour(text: str, per_s: float) -> None:
    assert parse_rate(text).per_s == pytest.approx(per_s)


@pytest.mark.parametrize(
    "text", ["", "50", "50/d", "/s", "0/s", "0.000/m", "-1/s", "1e3/s", "5 / s", "1.2345/s", "12345678/s", "٣/s"]
)
def test_what_is_no_rate_is_refused_with_what_is_needed(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"rate {text!r}: a number above 0, a slash and s, m or h are needed")):
        parse_rate(text)


@given(st.builds(Limits, st.none() | RATES, st.none() | st.integers(1, 10_000)))
def test_limits_are_read_as_they_were_written(limits: Limits) -> None:
    assert Limits.decode(limits.encode()) == limits


def test_no_limit_is_written_as_nothing() -> None:
    assert (Limits().encode(), Limits(Rate(50, "s"), 3).encode()) == (":", "50/s:3")


def test_a_queue_is_served_with_its_priorities_and_a_priority_alone() -> None:
    assert served("mail") == ["mail.high", "mail", "mail.low"]
    assert served("mail.low") == ["mail.low"]
    assert [base(name) for name in ("mail.high", "mail", "mail.low", ".high", "a.low.high")] == [
        "mail", "mail", "mail", ".high", "a.low",
    ]  # fmt: skip
