"""When periodic jobs fire, and what a fire time brings: pure reckoning, the clock is an argument."""

import itertools
import math
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.queue.periodic import Missed, Overlap, Periodic, fire_time
from jobs.queue.task import task
from scheduler.fires import Plan, plan

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=BERLIN).timestamp()
HOUR = 3_600.0
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
CRONS = (
    "* * * * *",
    "*/15 * * * *",
    "*/7 3 * * *",
    "*/20 2 * * *",
    "5 * * * *",
    "45 * * * *",
    "0 */3 * * *",
    "30 2 * * *",
    "15,45 1-3 * * *",
    "0 0 29 2 *",
    "0 12 * * MON#1",
    "*/30 59 1 * * *",
)
SPRING_AND_AUTUMN = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-10-04", "2026-04-05"),
}


@task(name="test.periodic", result_ttl_s=60)
def tidy(depth: int = 1) -> int:
    return depth


@task(name="test.forgetful", ignore_result=True)
def forgetful() -> None:
    pass


@task(name="test.keeping", result_ttl_s=-1)
def keeping() -> None:
    pass


def at(zone: ZoneInfo, *when: int, fold: int = 0) -> float:
    return datetime(*when, tzinfo=zone, fold=fold).timestamp()  # type: ignore[misc,arg-type]  # a date is spelled as numbers


def clock(cron: str, zone: str, day: str) -> list[str]:
    """What the clock shows at the fires from six hours before the day until 24 hours after it began."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp()
    fires = itertools.takewhile((start + 24 * HOUR).__gt__, Periodic("p", tidy, cron, timezone=zone).fires(start - 6 * HOUR))
    return [datetime.fromtimestamp(fire_at, ZoneInfo(zone)).strftime("%H:%M%z") for fire_at in fires if fire_at >= start]


def test_the_next_fire_is_reckoned_in_the_jobs_own_zone() -> None:
    nightly = Periodic("nightly", tidy, "15 0 * * *", timezone="Europe/Berlin")
    assert nightly.next_fire(NOON) == at(BERLIN, 2026, 11, 22, 0, 15)
    assert Periodic("nightly", tidy, "15 0 * * *").next_fire(NOON) == at(ZoneInfo("UTC"), 2026, 11, 22, 0, 15)


# --- daylight saving -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "spring", "autumn"),
    [
        ("Europe/Berlin", "03:00+0200", "02:30+0200"),
        ("America/New_York", "03:00-0400", "02:30-0500"),
        ("Australia/Lord_Howe", "02:30+1100", "02:30+1030"),
    ],
)
def test_a_daily_job_fires_once_on_both_days_on_which_the_clocks_change(zone: str, spring: str, autumn: str) -> None:
    days = SPRING_AND_AUTUMN[zone]
    assert [clock("30 2 * * *", zone, day) for day in days] == [[spring], [autumn]]


def test_a_time_that_spring_skips_fires_at_the_next_one_that_exists() -> None:
    assert clock("10 2 * * *", "Australia/Lord_Howe", "2026-10-04") == ["02:30+1100"]
    assert clock("0 2,3 * * *", "Europe/Berlin", "2026-03-29") == ["03:00+0200"]


@pytest.mark.parametrize(("zone", "hour"), [("Europe/Berlin", 2), ("America/New_York", 1), ("Australia/Lord_Howe", 1)])
def test_a_daily_job_in_the_time_that_autumn_repeats_fires_once(zone: str, hour: int) -> None:
    nightly = Periodic("nightly", tidy, f"40 {hour} * * *", timezone=zone)
    autumn = datetime.fromisoformat(SPRING_AND_AUTUMN[zone][1]).replace(tzinfo=ZoneInfo(zone))
    first, second = (autumn.replace(hour=hour, minute=40, fold=fold).timestamp() for fold in (0, 1))
    tomorrow = (autumn + timedelta(days=1)).replace(hour=hour, minute=40).timestamp()
    assert nightly.next_fire(first - 60) == first
    assert [nightly.next_fire(after) for after in (first, second - 60, second, second + 60)] == [tomorrow] * 4


@pytest.mark.parametrize("zone", SPRING_AND_AUTUMN)
def test_a_job_every_quarter_of_an_hour_fires_every_quarter_of_an_hour_whatever_the_clocks_do(zone: str) -> None:
    for day in SPRING_AND_AUTUMN[zone]:
        start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp()
        fires = itertools.islice(Periodic("p", tidy, "*/15 * * * *", timezone=zone).fires(start - 1), 96)
        assert list(fires) == [start + 900 * number for number in range(96)]


def test_an_hourly_job_fires_whenever_the_clock_shows_its_minute() -> None:
    berlin, howe = SPRING_AND_AUTUMN["Europe/Berlin"], SPRING_AND_AUTUMN["Australia/Lord_Howe"]
    assert clock("5 * * * *", "Europe/Berlin", berlin[0])[:4] == ["00:05+0100", "01:05+0100", "03:05+0200", "04:05+0200"]
    assert clock("5 * * * *", "Europe/Berlin", berlin[1])[2:5] == ["02:05+0200", "02:05+0100", "03:05+0100"]
    assert clock("45 * * * *", "Australia/Lord_Howe", howe[0])[1:4] == ["01:45+1030", "02:45+1100", "03:45+1100"]
    assert clock("5 * * * *", "Australia/Lord_Howe", howe[0])[1:3] == ["01:05+1030", "03:05+1100"]
    assert clock("45 * * * *", "Australia/Lord_Howe", howe[1])[1:4] == ["01:45+1100", "01:45+1030", "02:45+1030"]
    assert clock("*/20 3 * * *", "Australia/Lord_Howe", howe[0]) == ["03:00+1100", "03:20+1100", "03:40+1100"]


def test_an_interval_knows_no_zone_and_no_start() -> None:
    often = Periodic("often", tidy, every_s=90, timezone="Europe/Berlin")
    assert list(itertools.islice(often.fires(89.5), 3)) == [90, 180, 270]
    assert often.next_fire(90) == 180
    changing = at(BERLIN, 2026, 3, 29, 0, 0)
    assert all(fire_at % 90 == 0 for fire_at in itertools.islice(often.fires(changing), 200))


def shows(fire_at: float, minute: int, zone: ZoneInfo) -> bool:
    return datetime.fromtimestamp(fire_at, zone).minute == minute


@given(
    day=st.sampled_from([(zone, day) for zone, days in SPRING_AND_AUTUMN.items() for day in days]),
    second=st.integers(-3 * 86_400, 3 * 86_400),
    fraction=st.floats(0, 0.999),
    cron=st.sampled_from(CRONS),
)
def test_from_any_instant_near_a_change_of_the_clocks_the_next_fire_is_the_next_of_them_all(
    day: tuple[str, str], second: int, fraction: float, cron: str
) -> None:
    zone, date = day
    change = datetime.fromisoformat(date).replace(tzinfo=ZoneInfo(zone)).timestamp()
    periodic = Periodic("p", tidy, cron, timezone=zone)
    all_of_them = list(itertools.takewhile((change + 9 * 86_400).__gt__, periodic.fires(change - 4 * 86_400)))
    assert all_of_them == sorted(set(all_of_them))
    after = change + second + fraction
    expected = next((fire_at for fire_at in all_of_them if fire_at > after), None)
    assert expected is None or periodic.next_fire(after) == expected


@pytest.mark.parametrize("zone", SPRING_AND_AUTUMN)
@pytest.mark.parametrize("minute", [0, 5, 30, 45])
def test_an_hourly_job_fires_at_exactly_the_instants_at_which_a_clock_would_show_its_minute(zone: str, minute: int) -> None:
    for day in SPRING_AND_AUTUMN[zone]:
        start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp() - 7_200
        minutes = (start + 60 * number for number in range(2_000))
        watched = [instant for instant in minutes if shows(instant, minute, ZoneInfo(zone))]
        fires = Periodic("p", tidy, f"{minute} * * * *", timezone=zone).fires(start - 1)
        assert list(itertools.islice(fires, len(watched))) == watched


@given(after=st.floats(0, 4e9), cron=st.sampled_from(CRONS), zone=st.sampled_from(ZONES))
def test_fire_times_only_ever_lie_ahead(after: float, cron: str, zone: str) -> None:
    periodic = Periodic("nightly", tidy, cron, timezone=zone)
    following = periodic.next_fire(after)
    assert following > after
    assert periodic.next_fire(following) > following
    assert periodic.next_fire(math.nextafter(following, 0)) == following


# --- what a fire time brings ---------------------------------------------------------------------

NOW = 1_800_000_000.0  # a full hour


def ten(**options: object) -> Periodic:
    return Periodic("ten", tidy, every_s=10, **options)  # type: ignore[arg-type]  # each test names one option


def decided(periodic: Periodic, fire_at: float, now: float, passed_until: float = 0.0) -> Plan:
    found = plan(periodic, fire_at, now, passed_until=passed_until)
    if found is None:
        raise AssertionError("not due")
    return found


def test_a_fire_in_time_or_within_the_grace_is_one_run() -> None:
    assert plan(ten(), NOW, NOW - 0.001, passed_until=0.0) is None
    for late_s in (0.0, 0.5, 10.0):
        assert decided(ten(), NOW, NOW + late_s) == Plan((NOW,), 0, NOW + 10, 0)


def test_missed_fires_follow_their_policy() -> None:
    now = NOW + 65.0  # ten seconds of grace: those from NOW + 60 on are in time
    assert decided(ten(missed=Missed.SKIP), NOW, now) == Plan((), 6, NOW + 60, 0)
    assert decided(ten(missed=Missed.ONCE), NOW, now) == Plan((NOW + 50,), 5, NOW + 60, 0)
    assert decided(ten(missed=Missed.ALL, missed_max=2), NOW, now) == Plan((NOW + 40, NOW + 50), 4, NOW + 60, 2)
    assert decided(ten(missed=Missed.ALL, missed_max=9), NOW, now).runs == tuple(NOW + 10 * n for n in range(6))
    assert decided(ten(overlap=Overlap.QUEUE_ONE, missed=Missed.ONCE), NOW, now).waits == 1


def test_fire_times_within_a_pause_pass_and_count_as_nothing() -> None:
    assert decided(ten(), NOW, NOW + 3, passed_until=NOW + 3) == Plan((), 0, NOW + 10, 0)
    assert decided(ten(), NOW, NOW + 500, passed_until=NOW + 495) == Plan((), 0, NOW + 500, 0)
    assert decided(ten(), NOW, NOW + 1, passed_until=NOW - 1).runs == (NOW,)


def test_jitter_delays_each_fire_by_its_own_share_which_is_always_the_same() -> None:
    often = ten(jitter_s=4.0)
    delays = [often.due_at(NOW + 10 * number) - NOW - 10 * number for number in range(200)]
    assert min(delays) >= 0.0 and max(delays) <= 4.0
    assert max(delays) - min(delays) > 3.0
    assert [ten(jitter_s=4.0).due_at(NOW + 10 * number) - NOW - 10 * number for number in range(200)] == delays
    assert ten().due_at(NOW) == NOW
    assert plan(often, NOW, often.due_at(NOW) - 0.001, passed_until=0.0) is None
    assert decided(often, NOW, NOW + 14.0).runs == (NOW,), "grace begins when the jitter ends"
    assert decided(often, NOW, NOW + 14.5).next_at == NOW + 10


@given(
    how=st.sampled_from([{"every_s": 1}, {"every_s": 7}, {"cron": "*/5 * * * *"}, {"cron": "30 2 * * *"}]),
    missed=st.sampled_from(list(Missed)),
    missed_max=st.integers(1, 5),
    late_s=st.floats(0, 20_000),
)
def test_each_fire_time_is_either_run_or_counted_as_missed_or_still_to_come(
    how: dict[str, object], missed: Missed, missed_max: int, late_s: float
) -> None:
    periodic = Periodic("p", tidy, missed=missed, missed_max=missed_max, timezone="Europe/Berlin", **how)  # type: ignore[arg-type]
    first = periodic.next_fire(NOW)
    found = decided(periodic, first, first + late_s)
    until = list(itertools.takewhile(found.next_at.__gt__, periodic.fires(first - 1)))
    assert len(found.runs) + found.missed == len(until)
    assert list(found.runs) == (until[-len(found.runs) :] if found.runs else [])
    assert found.next_at > until[-1]
    assert found.next_at + 10 >= first + late_s or found.runs == (first,)


def test_a_second_job_after_a_week_and_a_minute_job_after_a_year_take_no_long_walk() -> None:
    week = Periodic("p", tidy, every_s=1, missed=Missed.ALL, missed_max=100)
    found = decided(week, NOW, NOW + 7 * 86_400)
    assert (len(found.runs), found.missed) == (100, 7 * 86_400 - 110)
    year = Periodic("p", tidy, "* * * * *", missed=Missed.ALL, missed_max=3)
    later = decided(year, NOW, NOW + 365 * 86_400)
    assert later.runs == tuple(NOW + 365 * 86_400 - 60 * n for n in (3, 2, 1))
    assert later.missed == 10_000 - 3, "a cron job's count ends there"


def test_the_fire_time_of_a_run_can_be_read_from_its_id() -> None:
    assert fire_time("cron-daily-report-1800000000") == 1_800_000_000
    for other in ("cron-daily-report", "cron-daily-report-1800000000250-now", "unique-1800000000", "cron-1800000000"):
        assert fire_time(other) is None


# --- declaring -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("declared", "kept_s"), [(tidy, 600), (forgetful, 600), (keeping, 86_400)])
def test_the_job_of_a_run_outlives_it_for_ten_minutes_at_least_and_a_day_at_most(declared: object, kept_s: int) -> None:
    flat = Periodic("p", declared, every_s=60).definition().flat  # type: ignore[arg-type]  # tasks of several signatures
    assert flat[flat.index("result_ttl") + 1] == str(kept_s)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "every day"}, "Wrong number of fields"),
        ({"cron": "0 0 31 2 *"}, "Bad day-of-month"),
        ({"cron": ""}, "either cron or every_s"),
        ({"every_s": 60}, "either cron or every_s"),
        ({"cron": "", "every_s": 0}, "every_s: whole seconds of at least 1"),
        ({"cron": "", "every_s": 1.5}, "every_s: whole seconds of at least 1"),
        ({"cron": "", "every_s": True}, "every_s: whole seconds of at least 1"),
        ({"overlap": "often"}, "not a valid Overlap"),
        ({"missed": "often"}, "not a valid Missed"),
        ({"missed_max": 0}, "missed_max"),
        ({"missed_max": 101}, "missed_max"),
        ({"jitter_s": -1}, "jitter_s"),
        ({"jitter_s": math.nan}, "jitter_s"),
        ({"grace_s": 0.5}, "grace_s"),
        ({"queue": "no queue"}, "queue"),
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
