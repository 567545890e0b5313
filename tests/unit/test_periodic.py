"""When periodic jobs fire: pure reckoning, the clock is an argument."""

from __future__ import annotations

import json
import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.queue.periodic import Periodic
from jobs.queue.task import task
from scheduler import recurrence

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=BERLIN).timestamp()


@task(name="test.periodic", result_ttl_s=60)
def tidy(depth: int = 1) -> int:
    return depth


def at(zone: ZoneInfo, *when: int, fold: int = 0) -> float:
    return datetime(*when, tzinfo=zone, fold=fold).timestamp()  # type: ignore[misc,arg-type]  # a date is spelled as numbers


def plan(meta: object, fire_at: float, now: float) -> recurrence.Fire:
    return recurrence.plan(json.dumps(meta).encode(), fire_at, now)


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
        ({"cron": "61 * * * *"}, "'61 * * * *' cannot be used: Bad minute"),
        ({"cron": "every day"}, "Wrong number of fields"),
        ({"cron": "0 0 31 2 *"}, "Bad day-of-month"),
        ({"timezone": "Mars/Base"}, "'Mars/Base' is no IANA time zone"),
        ({"name": "Nightly"}, "'Nightly': lower-case words"),
        ({"name": "nightly-1700000000"}, "lower-case words"),
        ({"args": (1, 2)}, "too many positional arguments"),
        ({"kwargs": {"deep": 1}}, "unexpected keyword argument"),
        ({"args": (object(),)}, "arguments must be JSON"),
    ],
)
def test_a_bad_declaration_is_refused_and_named(change: dict[str, object], named: str) -> None:
    declared: dict[str, object] = {"name": "nightly", "task": tidy, "cron": "0 0 * * *", **change}
    with pytest.raises(ValueError, match="periodic job") as caught:
        Periodic(**declared)  # type: ignore[arg-type]  # wrong on purpose
    assert named in str(caught.value)
    assert repr(declared["name"]) in str(caught.value)


def test_missed_intervals_are_one_fire_and_the_next_keeps_the_beat() -> None:
    assert plan({"interval": 60}, 1000.0, 1000.5).next_at == 1060.0
    assert plan({"interval": 60}, 1000.0, 1300.0).next_at == 1360.0


def test_a_stock_cron_string_means_utc_and_may_be_an_alias_or_have_a_year() -> None:
    utc = ZoneInfo("UTC")
    assert plan({"cron_string": "5 * * * *", "use_local_timezone": True}, NOON, NOON).next_at == at(utc, 2026, 11, 21, 11, 5)
    assert plan({"cron_string": "@daily"}, NOON, NOON).next_at == at(utc, 2026, 11, 22)
    assert plan({"cron_string": "0 0 1 1 * 2028"}, NOON, NOON).next_at == at(utc, 2028, 1, 1)


def test_repeat_counts_down_to_a_last_run_and_the_run_carries_no_schedule() -> None:
    fire = plan({"interval": 60, "repeat": 2, "note": "mine"}, 1000.0, 1000.0)
    assert fire.next_at == 1060.0
    assert json.loads(fire.definition_meta) == {"interval": 60, "repeat": 1, "note": "mine"}
    assert json.loads(fire.run_meta) == {"note": "mine"}
    assert plan({"interval": 60, "repeat": 1}, 1000.0, 1000.0).next_at is None


@pytest.mark.parametrize(
    "meta",
    [
        {"cron_string": "not a cron"},
        {"cron_string": "0 0 1 1 * 1999"},
        {"cron_string": 5},
        {"interval": -1},
        {"interval": "60"},
        {"interval": 0},
        [],
    ],
)
def test_a_schedule_that_cannot_be_read_is_an_error_with_a_reason(meta: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        plan(meta, 1000.0, NOON)


def test_meta_that_is_no_json_is_an_error_with_a_reason() -> None:
    with pytest.raises(ValueError, match="its meta cannot be read"):
        recurrence.plan(b"\x80\x04}.", 1000.0, NOON)
