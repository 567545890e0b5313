"""The periodic jobs' work: roll-up, daily report, cleanup; each may run at any time, twice, or half, and nothing is lost."""

import json
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import redis
from hands import Hands
from killing import Killer
from mall_floor import Floor
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import Permanent
from jobs.mall import reports
from jobs.mall.periodic import table
from jobs.mall.reports import Report
from jobs.queue import dead_letters
from jobs.queue.calling import enqueue
from jobs.settings import Settings

DAY = "2025-11-21"
DAY_S = 86_400.0


def minutes(client: redis.Redis, day: str, **people: int) -> None:
    """Counts people into minutes, given as h10m05_in_north=3."""
    for name, number in people.items():
        at, direction, gate = name.split("_")
        client.hincrby(keys.MINUTES_PREFIX + day, f"{at[1:3]}:{at[4:6]}|{direction}|{gate}", number)
    client.sadd(keys.DIRTY_DAYS, day)


def test_hours_are_the_sums_of_their_minutes_by_direction_and_gate(redis_client: redis.Redis, settings: Settings) -> None:
    minutes(redis_client, DAY, h10m05_in_north=3, h10m59_in_north=4, h10m05_out_north=1, h10m05_in_south=2, h00m00_in_north=9)
    assert reports.roll_up() == 1
    after = snapshot(redis_client)
    assert after[f"turnstile:footfall:hour:{DAY}"] == {
        "10|in|north": "7",
        "10|out|north": "1",
        "10|in|south": "2",
        "00|in|north": "9",
    }
    assert "turnstile:footfall:dirty" not in after
    assert f"turnstile:footfall:hour:{DAY}!ttl" not in after
    assert reports.roll_up() == 0
    assert changes(after, snapshot(redis_client)) == {}


def test_a_day_that_is_counted_into_again_is_summed_up_again(redis_client: redis.Redis, settings: Settings) -> None:
    minutes(redis_client, DAY, h10m05_in_north=3)
    reports.roll_up()
    minutes(redis_client, DAY, h10m05_in_north=2, h11m00_in_north=1)
    minutes(redis_client, "2025-11-20", h23m59_in_north=1)
    assert reports.roll_up() == 2
    assert snapshot(redis_client)[f"turnstile:footfall:hour:{DAY}"] == {"10|in|north": "5", "11|in|north": "1"}


def test_the_daily_report_counts_people_and_the_orders_of_the_malls_own_day(
    redis_client: redis.Redis, hands: Hands, floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "current", lambda: Settings(timezone="Europe/Berlin"))
    start = datetime(2025, 11, 20, 23, 0, tzinfo=UTC).timestamp()
    redis_client.hset(keys.GATES_PREFIX + DAY, mapping={"in|north": 7, "out|north": 2, "in|a|b": 1})
    for now in (start - 1, start, start + DAY_S - 1, start + DAY_S):
        floor.order(("A", 1), now=now)
    floor.cancel(floor.order(("A", 1), now=start + 5))
    assert reports.daily_report(DAY) == DAY
    written = redis_client.get(keys.REPORTS_PREFIX + DAY)
    gates = {"north": {"in": 7, "out": 2}, "a|b": {"in": 1, "out": 0}}
    assert msgspec.json.decode(written, type=Report) == Report(DAY, 8, 2, gates, {"accepted": 2, "cancelled": 1})
    assert redis_client.ttl(keys.REPORTS_PREFIX + DAY) > 399 * DAY_S
    before = snapshot(redis_client)
    reports.daily_report(DAY)
    assert changes(before, snapshot(redis_client)) == {}


@pytest.mark.parametrize(("day", "hours"), [("2025-03-30", 23), ("2025-10-26", 25)])
def test_a_day_on_which_the_clocks_change_is_still_one_day(
    floor: Floor, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, day: str, hours: int
) -> None:
    zone = Settings(timezone="Europe/Berlin")
    monkeypatch.setattr(reports, "current", lambda: zone)
    start = datetime.fromisoformat(day).replace(tzinfo=zone.zone).timestamp()
    floor.order(("A", 1), now=start)
    floor.order(("A", 1), now=start + hours * 3_600 - 1)
    floor.order(("A", 1), now=start + hours * 3_600)
    reports.daily_report(day)
    assert json.loads(redis_client.get(keys.REPORTS_PREFIX + day))["orders"] == {"accepted": 2}


def test_without_a_date_the_report_is_yesterdays(settings: Settings, redis_client: redis.Redis) -> None:
    before = datetime.now(UTC).date()
    written = reports.daily_report()
    assert written in {str(before - timedelta(days=1)), str(datetime.now(UTC).date() - timedelta(days=1))}
    assert redis_client.exists(keys.REPORTS_PREFIX + written)


def test_the_report_of_a_missed_day_is_made_up_for_when_its_run_comes_days_later(
    redis_client: redis.Redis, hands: Hands, settings: Settings
) -> None:
    fire_at = datetime(2025, 11, 22, 0, 15, tzinfo=UTC).timestamp()
    report = next(periodic for periodic in table(settings) if periodic.name == "daily-report")
    for late_days in range(3):
        enqueue(redis_client, report.task.spec(job_id=f"cron-daily-report-{fire_at + late_days * DAY_S:.0f}"), now=time.time())
    hands.work_off("default")
    assert sorted(redis_client.scan_iter(f"{keys.REPORTS_PREFIX}*")) == [
        f"{keys.REPORTS_PREFIX}2025-11-{day}".encode() for day in (21, 22, 23)
    ]


def old_orders(hands: Hands, floor: Floor) -> dict[str, str]:
    """One order of each kind, all unchanged for a hundred days."""
    floor.put("B", 0)
    ids = {"cancelled": floor.order(("A", 1)), "rejected": floor.order(("B", 1))}
    floor.cancel(ids["cancelled"])
    hands.work_off("picking")
    for name in ("dead", "discarded"):
        ids[name] = floor.order(("A", 1))
        hands.work_off("picking")
        hands.fail(hands.must_claim("packing"), Permanent("no"))
    dead_letters.discard(hands.client, f"{ids['discarded']}-pack")
    ids["open"] = floor.order(("A", 1))
    for order_id in ids.values():
        status = floor.status(order_id)
        hands.client.zadd(keys.STATUS_PREFIX + status, {order_id: time.time() - 100 * DAY_S})
    return ids


def test_cleanup_deletes_what_ended_long_ago_and_keeps_its_number(redis_client: redis.Redis, hands: Hands, floor: Floor) -> None:
    ids = old_orders(hands, floor)
    counted = floor.counts()
    fresh = floor.order(("A", 1))
    floor.cancel(fresh)
    assert reports.cleanup() == {"orders": 3, "minute_days": 0}
    kept = {order_id.decode() for order_id in redis_client.zrange(keys.ORDERS, 0, -1)}
    assert kept == {ids["open"], ids["dead"], fresh}
    for name in ("cancelled", "rejected", "discarded"):
        assert not redis_client.exists(keys.order(ids[name]), keys.order_attempts(ids[name]))
    assert floor.counts() == {**counted, "cancelled": 2}
    floor.check_books()
    before = snapshot(redis_client)
    assert reports.cleanup() == {"orders": 0, "minute_days": 0}
    assert changes(before, snapshot(redis_client)) == {}


def test_a_dead_order_goes_once_its_dead_letter_has_been_dealt_with(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    ids = old_orders(hands, floor)
    reports.cleanup()
    dead_letters.discard(redis_client, f"{ids['dead']}-pack")
    assert reports.cleanup()["orders"] == 1
    assert not redis_client.exists(keys.order(ids["dead"]))
    floor.check_books()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_cleanup_that_is_killed_anywhere_can_be_run_again(
    redis_client: redis.Redis, hands: Hands, floor: Floor, killer: Killer, after: bool
) -> None:
    old_orders(hands, floor)
    counted = floor.counts()
    for round_trip in range(20):
        with killer.at(round_trip, after=after):
            reports.cleanup()
        assert floor.counts() == counted
        floor.check_books()
        if not killer.struck:
            break
    assert redis_client.zcard(keys.ORDERS) == 2


def test_many_orders_that_must_be_kept_do_not_hide_those_that_may_go(
    redis_client: redis.Redis, hands: Hands, floor: Floor
) -> None:
    number = reports.ARCHIVE_PAGE + 1
    for _ in range(number + 1):
        floor.order(("A", 1))
    hands.work_off("picking")
    for age in range(number + 1):
        claim = hands.must_claim("packing")
        hands.fail(claim, Permanent("no"))
        order_id = claim.id.removesuffix("-pack")
        redis_client.zadd(keys.STATUS_PREFIX + "dead", {order_id: time.time() - (1_000 - age) * DAY_S})
    dead_letters.discard(redis_client, claim.id)
    assert reports.cleanup()["orders"] == 1
    assert redis_client.zcard(keys.ORDERS) == number


def test_minutes_are_dropped_when_they_are_old_and_never_before_they_are_rolled_up(
    redis_client: redis.Redis, settings: Settings
) -> None:
    oldest_kept = datetime.now(UTC) - timedelta(days=settings.minutes_keep_days)
    kept, dropped = (f"{oldest_kept + timedelta(days=offset):%Y-%m-%d}" for offset in (0, -2))
    minutes(redis_client, kept, h10m05_in_north=3)
    minutes(redis_client, dropped, h10m05_in_north=4)
    assert reports.cleanup() == {"orders": 0, "minute_days": 1}
    after = snapshot(redis_client)
    assert after[f"turnstile:footfall:hour:{dropped}"] == {"10|in|north": "4"}
    assert f"turnstile:footfall:minute:{dropped}" not in after
    assert after[f"turnstile:footfall:minute:{kept}"] == {"10:05|in|north": "3"}
    assert after["turnstile:footfall:dirty"] == {kept}
