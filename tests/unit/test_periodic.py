"""When periodic jobs fire: pure reckoning, the clock is an argument."""

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.queue.periodic import Periodic
from jobs.queue.task import task

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=BERLIN).timestamp()


@task(name="test.periodic", result_ttl_s=60)
def tidy(depth: int = 1) -> int:
    return depth


def at(zone: ZoneInfo, *when: int, fold: int = 0) -> float:
    return datetime(*when, tzinfo=zone, fold=fold).timestamp()  # type: ignore[misc,arg-type]  # a date is spelled as numbers


def test_the_next_fire_is_reckoned_in_the_jobs_own_zone() -> None:
    nightly = Periodic("nightly", tidy, "15 0 * * *", timezone="Europe/Berlin")
    assert nightly.next_fire(NOON) == at(BERLIN, 2026, 11, 22, 0, 15)
    assert Periodic("nightly", tidy, "15 0 * * *").next_fire(NOON) == at(ZoneInfo("UTC"), 2026, 11, 22, 0, 15)


def test_a_time_that_spring_skips_fires_at_the_next_one_that_exists() -> None:
    nightly = Periodic("nightly", tidy, "30 2 * * *", timezone="Europe/Berlin")
    assert nightly.next_fire(at(BERLIN, 2026, 3, 29, 1, 0)) == at(BERLIN, 2026, 3, 29, 3, 0)


def test_a_time_that_autumn_repeats_fires_once() -> None:
    nightly = Periodic("nightly", tidy, "30 2 * * *", timezone="Europe/Berlin")
    first = nightly.next_fire(at(BERLIN, 2026, 10, 25, 1, 0))
    assert first == at(BERLIN, 2026, 10, 25, 2, 30, fold=0)
    tomorrow = at(BERLIN, 2026, 10, 26, 2, 30)
    assert nightly.next_fire(first) == tomorrow
    assert nightly.next_fire(at(BERLIN, 2026, 10, 25, 2, 10, fold=1)) == tomorrow


@given(
    after=st.floats(0, 4e9),
    cron=st.sampled_from(["* * * * *", "*/7 3 * * *", "5 * * * *", "30 2 * * *", "0 0 29 2 *", "0 12 * * MON#1"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
def test_fire_times_only_ever_lie_ahead(after: float, cron: str, zone: str) -> None:
    periodic = Periodic("nightly", tidy, cron, timezone=zone)
    following = periodic.next_fire(after)
    assert following > after
    assert periodic.next_fire(following) > following
    assert periodic.next_fire(math.nextafter(following, 0)) == following


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "every day"}, "Wrong number of fields"),
        ({"cron": "0 0 31 2 *"}, "Bad day-of-month"),
        ({"timezone": "Mars/Base"}, "No time zone found with key Mars/Base"),
        ({"timezone": "/etc/passwd"}, "absolute"),
        ({"name": "Nightly"}, "lower-case words"),
        ({"name": "n" * 200}, "at most 128"),
        ({"name": "nightly-1700000000"}, "lower-case words"),
        ({"args": (1, 2)}, "too many positional arguments"),
        ({"kwargs": {"deep": 1}}, "unexpected keyword argument"),
        ({"args": (object(),)}, "argument 'depth' must be JSON"),
    ],
)
def test_a_bad_declaration_is_refused_and_named(change: dict[str, object], named: str) -> None:
    declared: dict[str, object] = {"name": "nightly", "task": tidy, "cron": "0 0 * * *", **change}
    with pytest.raises(ValueError, match="periodic job") as caught:
        Periodic(**declared)  # type: ignore[arg-type]  # wrong on purpose
    assert named in str(caught.value)
    assert repr(declared["name"]) in str(caught.value)
