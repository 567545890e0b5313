"""The periodic jobs' work: the hourly roll-up, the daily report, the cleanup. Each can be run again at any time."""

import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import redis

from jobs import connections, keys
from jobs.mall.orders import ENDED, Status
from jobs.queue.backoff import Backoff
from jobs.queue.periodic import fire_time
from jobs.queue.running import running_job
from jobs.queue.script import beside
from jobs.queue.task import task
from jobs.settings import current

ROLL_UP = beside(__file__, "roll_up")
ARCHIVE = beside(__file__, "archive")
RETRY = Backoff(max_attempts=5, base_s=2.0, cap_s=60.0)
REPORT_TTL_S = 400 * 86_400
ARCHIVE_PAGE = 200


class Report(msgspec.Struct, frozen=True):
    """One day in the mall. People by direction and gate; orders by their present status, of those created that day."""

    date: str
    people_in: int
    people_out: int
    by_gate: dict[str, dict[str, int]]
    orders: dict[str, int]


@task(name="footfall.roll_up", retry=RETRY, time_limit_s=300.0)
def roll_up() -> int:
    """Sums the minutes of every day that was counted into since the last time up to hours; returns how many days.

    Absolute sums, so that a day can be rolled up any number of times, late entries included.
    """
    client = connections.process_client()
    days = sorted(client.smembers(keys.DIRTY_DAYS))
    for day in days:
        name = day.decode()
        ROLL_UP(client, [keys.MINUTES_PREFIX + name, keys.HOURS_PREFIX + name, keys.DIRTY_DAYS], [name])
    return len(days)


@task(name="reports.daily", retry=RETRY, time_limit_s=300.0)
def daily_report(date: str | None = None) -> str:
    """Writes the report of a day, by default of that before the fire time for which it runs; returns its date."""
    client, zone = connections.process_client(), current().zone
    yesterday = datetime.fromtimestamp(_fired_at(), zone).date() - timedelta(days=1)
    day = yesterday if date is None else datetime.strptime(date, "%Y-%m-%d").date()
    people: Counter[str] = Counter()
    by_gate: dict[str, dict[str, int]] = {}
    for field, number in client.hgetall(f"{keys.GATES_PREFIX}{day}").items():
        direction, _, gate = field.decode().partition("|")
        people[direction] += int(number)
        by_gate.setdefault(gate, {"in": 0, "out": 0})[direction] += int(number)
    start = datetime(day.year, day.month, day.day, tzinfo=zone)
    end = start + timedelta(days=1)  # in local time: a day of 23 or 25 hours is still one day
    orders = _orders_by_status(client, start.timestamp(), end.timestamp())
    report = Report(str(day), people["in"], people["out"], by_gate, orders)
    client.set(f"{keys.REPORTS_PREFIX}{day}", msgspec.json.encode(report), ex=REPORT_TTL_S)
    return str(day)


def _fired_at() -> float:
    """A missed fire is made up for later, maybe days later; outside a periodic job's run it is now."""
    try:
        fired_at = fire_time(running_job().id)
    except LookupError:
        fired_at = None
    return time.time() if fired_at is None else fired_at


@task(name="maintenance.cleanup", retry=RETRY, time_limit_s=600.0)
def cleanup() -> dict[str, int]:
    """Deletes orders that ended long ago and minutes that are rolled up and old; returns how many of each."""
    client, settings, now = connections.process_client(), current(), time.time()
    archived = sum(_archive(client, status, now - settings.order_keep_days * 86_400) for status in sorted(ENDED))
    oldest_kept = datetime.fromtimestamp(now, UTC) - timedelta(days=settings.minutes_keep_days)
    dropped = 0
    for key in client.scan_iter(match=f"{keys.MINUTES_PREFIX}*", count=500):
        name = key.decode().removeprefix(keys.MINUTES_PREFIX)
        if name < f"{oldest_kept:%Y-%m-%d}":
            ROLL_UP(client, [keys.MINUTES_PREFIX + name, keys.HOURS_PREFIX + name, keys.DIRTY_DAYS], [name])
            dropped += client.delete(key)
    return {"orders": archived, "minute_days": dropped}


def _archive(client: redis.Redis, status: Status, before: float) -> int:
    index, done, kept = keys.STATUS_PREFIX + status.value, 0, 0
    while ids := client.zrange(index, "-inf", before, byscore=True, offset=kept, num=ARCHIVE_PAGE):
        removed = ARCHIVE(client, [index, keys.ORDERS, keys.ORDERS_ARCHIVED], [status.value, *ids])
        done += removed
        kept += len(ids) - removed  # orders with a dead letter: they are somebody's open work
    return done


def _orders_by_status(client: redis.Redis, start: float, end: float) -> dict[str, int]:
    ids = client.zrange(keys.ORDERS, start, f"({end!r}", byscore=True)
    with client.pipeline(transaction=False) as pipeline:
        for order_id in ids:
            pipeline.hget(keys.order(order_id.decode()), "status")
        return dict(Counter(status.decode() for status in pipeline.execute() if status))
