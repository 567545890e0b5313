"""The periodic jobs of the table: registered, restored, fired once a fire time. The clock is an argument, no test waits."""

import itertools

import pytest
import redis
from periodic_floor import PeriodicFloor
from snapshots import changes, snapshot

from jobs import keys
from jobs.queue import calling, schedules, task
from jobs.queue.periodic import Missed, Overlap, Periodic
from scheduler.periodic import REGISTER
from scheduler.scheduler import TurnstileScheduler

NOW = 1_800_000_000.0
"""A full hour."""
FIVE_PAST = NOW + 300
RUN = f"cron-hourly-{FIVE_PAST:.0f}"


@task.task(name="test.tock", queue="ticks", result_ttl_s=60)
def tock(depth: int = 1) -> int:
    return depth


@task.task(name="test.brief", queue="ticks", expires_s=90.0)
def brief() -> None:
    pass


@task.task(name="test.single", queue="ticks", unique=True)
def single() -> None:
    pass


HOURLY = Periodic("hourly", tock, "5 * * * *", args=(2,))


def field(client: redis.Redis, job_id: str, name: str) -> str:
    return (client.hget(keys.job(job_id), name) or b"").decode()


def shown(client: redis.Redis, now: float) -> schedules.Schedule:
    [only] = schedules.schedules(client, now)
    return only


# --- registration --------------------------------------------------------------------------------


def test_registering_at_every_boot_writes_nothing(redis_client: redis.Redis) -> None:
    PeriodicFloor(redis_client, HOURLY).register(NOW)
    before = snapshot(redis_client)
    PeriodicFloor(redis_client, HOURLY).register(NOW + 1)
    assert changes(before, snapshot(redis_client)) == {}
    assert PeriodicFloor(redis_client).waiting() == {"cron-hourly": FIVE_PAST}
    listed = next(iter(TurnstileScheduler(connection=redis_client).get_jobs()))
    assert (listed.id, listed.args) == ("cron-hourly", [2])
    found = shown(redis_client, NOW)
    assert (found.cron, found.timezone, found.task, found.queue) == ("5 * * * *", "UTC", "test.tock", "ticks")
    assert (found.every_s, found.overlap, found.missed_policy, found.jitter_s) == (None, "skip", "once", 0.0)


def test_two_periodic_jobs_of_one_name_are_refused(redis_client: redis.Redis) -> None:
    with pytest.raises(ValueError, match="same name"):
        PeriodicFloor(redis_client, HOURLY, Periodic("hourly", tock, "0 0 * * *"))


def test_changed_times_move_the_fire_and_removed_names_vanish(redis_client: redis.Redis) -> None:
    PeriodicFloor(redis_client, HOURLY, Periodic("other", tock, "0 0 * * *")).register(NOW)
    schedules.act(redis_client, "run", "other", NOW, by="ann")
    changed = PeriodicFloor(redis_client, Periodic("hourly", tock, every_s=60))
    changed.register(NOW)
    assert changed.waiting() == {"cron-hourly": NOW + 60}
    assert (shown(redis_client, NOW).cron, shown(redis_client, NOW).every_s) == ("", 60.0)
    assert not [key for key in redis_client.scan_iter("*other*") if not key.endswith(b"-now")]
    PeriodicFloor(redis_client, Periodic("hourly", tock, "5 * * * *", timezone="Asia/Kolkata")).register(NOW)
    assert changed.waiting() == {"cron-hourly": NOW + 2_100}


def test_changed_options_hold_at_once_and_move_no_fire(redis_client: redis.Redis) -> None:
    PeriodicFloor(redis_client, HOURLY).register(NOW)
    late = Periodic(
        "hourly", tock, "5 * * * *", args=(3,), queue="other", overlap=Overlap.ALLOW, missed=Missed.SKIP, jitter_s=5.0
    )
    changed = PeriodicFloor(redis_client, late)
    changed.register(FIVE_PAST + 9)
    found = shown(redis_client, NOW)
    assert (found.overlap, found.missed_policy, found.jitter_s, found.queue) == ("allow", "skip", 5.0, "other")
    assert found.next_fire_at == FIVE_PAST
    assert changed.waiting() == {"cron-hourly": late.due_at(FIVE_PAST)}
    assert changed.promote(FIVE_PAST + 9)["fired"] == 1
    assert changed.ready("other") == [RUN]


DELETABLE = (keys.job("cron-hourly"), keys.SCHEDULED_JOBS, keys.periodic("hourly"), keys.PERIODIC)


@pytest.mark.parametrize("lost", [lost for n in range(1, 5) for lost in itertools.combinations(DELETABLE, n)])
def test_whatever_was_deleted_is_restored_and_the_fire_that_came_due_meanwhile_happens(
    redis_client: redis.Redis, lost: tuple[str, ...]
) -> None:
    floor = PeriodicFloor(redis_client, HOURLY)
    floor.register(NOW)
    schedules.act(redis_client, "pause", "hourly", NOW, by="ann")
    schedules.act(redis_client, "resume", "hourly", NOW + 1, by="ann")
    floor.register(FIVE_PAST - 1)
    before = snapshot(redis_client)
    redis_client.delete(*lost)
    floor.register(FIVE_PAST + 2)
    assert changes(before, snapshot(redis_client)) == {}
    assert floor.promote(FIVE_PAST + 2)["fired"] == 1
    assert floor.ready() == [RUN]


def test_a_definition_never_runs_even_if_its_name_was_deleted_just_before_its_time(redis_client: redis.Redis) -> None:
    floor = PeriodicFloor(redis_client, HOURLY)
    floor.register(NOW)
    redis_client.delete(keys.PERIODIC)
    assert floor.promote(FIVE_PAST)["fired"] == 1
    assert floor.ready() == [RUN]


def test_what_stands_in_redis_is_believed_by_the_next_leader(redis_client: redis.Redis) -> None:
    PeriodicFloor(redis_client, HOURLY).register(NOW)
    redis_client.delete(keys.job("cron-hourly"), keys.SCHEDULED_JOBS)
    following = PeriodicFloor(redis_client, HOURLY)
    following.register(FIVE_PAST + 2)
    assert following.promote(FIVE_PAST + 2)["fired"] == 1


def test_a_record_that_is_restored_as_it_was_before_its_last_fire_doubles_nothing(redis_client: redis.Redis) -> None:
    floor = PeriodicFloor(redis_client, HOURLY)
    floor.register(FIVE_PAST - 1)
    assert floor.promote(FIVE_PAST)["fired"] == 1
    redis_client.delete(keys.periodic("hourly"))
    floor.end(RUN)
    floor.register(FIVE_PAST + 1)
    assert floor.promote(FIVE_PAST + 1)["fired"] == 0
    assert floor.ready() == [RUN]
    assert floor.waiting() == {"cron-hourly": FIVE_PAST + 3_600}


def test_a_record_of_which_a_part_was_written_anew_keeps_it_and_gets_the_rest_back(redis_client: redis.Redis) -> None:
    floor = PeriodicFloor(redis_client, HOURLY)
    floor.register(NOW)
    redis_client.delete(keys.periodic("hourly"))
    schedules.act(redis_client, "pause", "hourly", NOW + 1, by="ann")
    floor.register(NOW + 2)
    assert (shown(redis_client, NOW).paused_at, shown(redis_client, NOW).next_fire_at) == (NOW + 1, FIVE_PAST)


def test_a_registration_that_was_decided_before_a_fire_moves_nothing_back(redis_client: redis.Redis) -> None:
    floor = PeriodicFloor(redis_client, HOURLY)
    floor.register(NOW)
    assert floor.promote(FIVE_PAST)["fired"] == 1
    before = snapshot(redis_client)
    places = [keys.job("cron-hourly"), keys.periodic("hourly"), keys.PERIODIC, keys.SCHEDULED_JOBS]
    args = ["hourly", "cron-hourly", '["a","b"]', '["next_fire_at","0"]', f"{FIVE_PAST:.0f}", "0"]
    assert REGISTER(redis_client, places, args) == 0
    assert changes(before, snapshot(redis_client)) == {}


def test_one_job_that_cannot_be_registered_or_fired_stops_no_other(redis_client: redis.Redis) -> None:
    other = Periodic("broken", tock, "5 * * * *")
    floor = PeriodicFloor(redis_client, other, HOURLY)
    floor.register(NOW)
    redis_client.delete(keys.periodic_runs("broken"))
    redis_client.hset(keys.periodic("broken"), "next_fire_at", "soon")
    redis_client.set(keys.periodic_runs("broken"), "?")
    assert floor.tick(FIVE_PAST)["fired"] == 1
    assert floor.ready() == [RUN]


def test_a_job_whose_record_is_another_type_of_key_is_restored(redis_client: redis.Redis) -> None:
    floor = PeriodicFloor(redis_client, HOURLY)
    floor.register(FIVE_PAST - 1)
    redis_client.delete(keys.periodic("hourly"), keys.job("cron-hourly"))
    redis_client.set(keys.periodic("hourly"), "?")
    redis_client.set(keys.job("cron-hourly"), "?")
    assert floor.tick(FIVE_PAST)["fired"] == 1


# --- fires ---------------------------------------------------------------------------------------


def test_one_fire_time_runs_once_however_many_schedulers_ask(redis_client: redis.Redis) -> None:
    first, second = PeriodicFloor(redis_client, HOURLY), PeriodicFloor(redis_client, HOURLY)
    first.register(NOW)
    assert first.promote(FIVE_PAST - 0.001)["fired"] == 0
    assert [floor.promote(FIVE_PAST)["fired"] for floor in (first, second, first)] == [1, 0, 0]
    assert first.ready() == [RUN]
    assert first.waiting() == {"cron-hourly": FIVE_PAST + 3600}
    found = shown(redis_client, FIVE_PAST)
    assert (found.last_job_id, found.last_fire_at, found.next_fire_at, found.runs) == (RUN, FIVE_PAST, FIVE_PAST + 3600, 1)
    assert (field(redis_client, RUN, "status"), field(redis_client, RUN, "task")) == ("queued", "test.tock")
    assert field(redis_client, RUN, "created_at") == "2027-01-15T08:05:00.000000Z"
    assert field(redis_client, RUN, "definition") == ""


def test_a_fire_whose_reply_was_lost_is_not_made_twice(redis_client: redis.Redis) -> None:
    floor = PeriodicFloor(redis_client, HOURLY)
    floor.register(NOW)
    record = redis_client.hgetall(keys.periodic("hourly"))
    assert floor.fires.due("cron-hourly", FIVE_PAST)["fired"] == 1
    redis_client.zadd(keys.SCHEDULED_JOBS, {"cron-hourly": FIVE_PAST})
    assert not floor.fires.due("cron-hourly", FIVE_PAST + 1), "the record knows better than the set"
    redis_client.hset(keys.periodic("hourly"), mapping=record)
    assert floor.fires.due("cron-hourly", FIVE_PAST + 1)["fired"] == 0
    assert floor.ready() == [RUN]


def test_the_set_entry_of_a_job_that_is_not_due_is_put_right(redis_client: redis.Redis) -> None:
    floor = PeriodicFloor(redis_client, HOURLY)
    floor.register(NOW)
    redis_client.zadd(keys.SCHEDULED_JOBS, {"cron-hourly": NOW})
    assert floor.promote(NOW + 1) == {}
    floor.register(NOW + 2)
    assert floor.waiting() == {"cron-hourly": FIVE_PAST}


def test_what_another_tables_scheduler_registered_is_left_to_the_registration(redis_client: redis.Redis) -> None:
    PeriodicFloor(redis_client, HOURLY).register(NOW)
    assert PeriodicFloor(redis_client).promote(FIVE_PAST) == {"unknown": 1}
    assert PeriodicFloor(redis_client).ready() == []


def test_fires_that_are_late_within_their_grace_are_all_made(redis_client: redis.Redis) -> None:
    often = Periodic("often", tock, every_s=1, overlap=Overlap.ALLOW)
    floor = PeriodicFloor(redis_client, often)
    floor.register(NOW)
    assert floor.promote(NOW + 9.5) == {"fired": 9}
    assert floor.ready() == [f"cron-often-{NOW + n:.0f}" for n in range(1, 10)]


def test_each_fire_is_delayed_by_its_own_jitter_and_keeps_its_own_time(redis_client: redis.Redis) -> None:
    often = Periodic("often", tock, every_s=10, jitter_s=5.0, overlap=Overlap.ALLOW)
    floor = PeriodicFloor(redis_client, often)
    floor.register(NOW)
    for fire_at in (NOW + 10, NOW + 20):
        assert floor.waiting() == {"cron-often": often.due_at(fire_at)}
        assert floor.promote(often.due_at(fire_at) - 0.01)["fired"] == 0
        assert floor.promote(often.due_at(fire_at) + 0.01)["fired"] == 1
    assert floor.ready() == [f"cron-often-{NOW + n:.0f}" for n in (10, 20)]


@pytest.mark.parametrize(
    ("missed", "runs", "counted"),
    [(Missed.SKIP, [], 5), (Missed.ONCE, [5], 4), (Missed.ALL, [3, 4, 5], 2)],
)
def test_missed_fires_follow_their_policy_and_the_next_one_is_in_time(
    redis_client: redis.Redis, missed: Missed, runs: list[int], counted: int
) -> None:
    floor = PeriodicFloor(redis_client, Periodic("m", tock, every_s=60, missed=missed, missed_max=3, overlap=Overlap.ALLOW))
    floor.register(NOW)
    assert shown(redis_client, NOW + 330).overdue_s == 270
    counts = floor.promote(NOW + 330)
    assert (counts["fired"], counts["missed"]) == (len(runs), counted)
    assert floor.ready() == [f"cron-m-{NOW + 60 * n:.0f}" for n in runs]
    assert (shown(redis_client, NOW).missed, shown(redis_client, NOW).next_fire_at) == (counted, NOW + 360)
    assert floor.promote(NOW + 361)["fired"] == 1


def test_a_job_of_every_second_is_back_in_time_after_a_week(redis_client: redis.Redis) -> None:
    floor = PeriodicFloor(redis_client, Periodic("s", tock, every_s=1, missed=Missed.SKIP, overlap=Overlap.ALLOW))
    floor.register(NOW)
    later = NOW + 7 * 86_400
    counts = floor.promote(later)
    assert counts == {"fired": 11, "missed": 7 * 86_400 - 11}
    assert floor.waiting() == {"cron-s": later + 1}


def test_a_run_expires_as_long_after_its_fire_as_its_task_says(redis_client: redis.Redis) -> None:
    floor = PeriodicFloor(redis_client, Periodic("brief", brief, "5 * * * *"))
    floor.register(NOW)
    assert floor.promote(FIVE_PAST + 1)["fired"] == 1
    assert float(field(redis_client, floor.ready()[0], "expires_at")) == FIVE_PAST + 1 + 90


def test_a_run_of_a_unique_task_is_skipped_while_another_job_has_the_lock_and_takes_it_otherwise(
    redis_client: redis.Redis,
) -> None:
    floor = PeriodicFloor(redis_client, Periodic("single", single, "5 * * * *"))
    floor.register(NOW)
    calling.enqueue(redis_client, single.spec(job_id="other", now=NOW), now=NOW)
    assert floor.promote(FIVE_PAST) == {"skipped": 1}
    floor.end("other")
    assert floor.promote(FIVE_PAST + 3600)["fired"] == 1
    assert not calling.enqueue(redis_client, single.spec(job_id="third", now=NOW), now=NOW)
