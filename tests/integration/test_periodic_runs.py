"""The runs of periodic jobs: which may overlap, which wait, what became of them; and pausing. No test waits for a time."""

from typing import get_args

import pytest
import redis
from hands import Hands
from periodic_floor import PeriodicFloor
from snapshots import changes, snapshot

from jobs import keys
from jobs.errors import Conflict, NotFound, Permanent
from jobs.queue import calling, schedules, task
from jobs.queue.periodic import Missed, Overlap, Periodic
from jobs.queue.schedules import Run, Schedule

NOW = 1_800_000_000.0


@task.task(name="test.minutely", queue="ticks", ignore_result=True)
def minutely() -> None:
    pass


@task.task(name="test.minutely_single", queue="ticks", unique=True)
def minutely_single() -> None:
    pass


def every_minute(overlap: Overlap = Overlap.SKIP, missed: Missed = Missed.ONCE) -> Periodic:
    return Periodic("m", minutely, every_s=60, overlap=overlap, missed=missed)


def run_of(minute: int) -> str:
    return f"cron-m-{NOW + 60 * minute:.0f}"


@pytest.fixture
def floor(redis_client: redis.Redis) -> PeriodicFloor:
    """A job that runs every minute and never overlaps itself, registered."""
    return floor_of(redis_client, every_minute())


def floor_of(client: redis.Redis, periodic: Periodic) -> PeriodicFloor:
    made = PeriodicFloor(client, periodic)
    made.register(NOW)
    return made


def shown(floor: PeriodicFloor, now: float = NOW) -> Schedule:
    [only] = schedules.schedules(floor.client, now)
    return only


# --- overlap -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["queued", "started", "scheduled"])
def test_a_fire_is_skipped_and_counted_while_the_last_run_has_not_ended(floor: PeriodicFloor, status: str) -> None:
    assert floor.promote(NOW + 60) == {"fired": 1}
    floor.end(run_of(1), status)
    assert floor.promote(NOW + 120) == {"skipped": 1}
    assert floor.ready() == [run_of(1)]
    with pytest.raises(Conflict):
        schedules.act(floor.client, "run", "m", NOW + 121, by="ann")
    floor.end(run_of(1), "failed")
    assert floor.promote(NOW + 180) == {"fired": 1}
    assert (shown(floor).skipped, shown(floor).waiting) == (1, False)


def test_fires_of_a_job_that_may_overlap_itself_are_all_made(redis_client: redis.Redis) -> None:
    floor = floor_of(redis_client, every_minute(Overlap.ALLOW))
    for minute in (1, 2, 3):
        assert floor.promote(NOW + 60 * minute) == {"fired": 1}
    schedules.act(redis_client, "run", "m", NOW + 181, by="ann")
    assert len(floor.ready()) == 4


def test_one_fire_waits_for_the_end_of_the_last_run_and_further_ones_are_skipped(redis_client: redis.Redis) -> None:
    floor = floor_of(redis_client, every_minute(Overlap.QUEUE_ONE))
    assert [floor.tick(NOW + 60 * minute) for minute in (1, 2, 3)] == [{"fired": 1}, {}, {"skipped": 1}]
    assert (floor.ready(), shown(floor).waiting) == ([run_of(1)], True)
    floor.end(run_of(1))
    assert floor.follow(NOW + 200) == {"fired": 1}
    assert floor.follow(NOW + 201) == {}
    assert (floor.ready(), shown(floor).waiting) == ([run_of(1), run_of(2)], False)
    assert shown(floor).last_fire_at == NOW + 120
    assert floor.tick(NOW + 240) == {}
    assert shown(floor).waiting
    floor.client.delete(keys.job(run_of(2)))
    assert floor.follow(NOW + 241) == {"fired": 1}, "a job that vanished holds nobody up"


def test_a_fire_that_waits_survives_a_new_boot_and_is_not_run_twice(redis_client: redis.Redis) -> None:
    floor = floor_of(redis_client, every_minute(Overlap.QUEUE_ONE))
    floor.tick(NOW + 60)
    floor.tick(NOW + 120)
    record = redis_client.hgetall(keys.periodic("m"))
    floor.end(run_of(1))
    again = floor_of(redis_client, every_minute(Overlap.QUEUE_ONE))
    assert again.follow(NOW + 121) == {"fired": 1}
    redis_client.hset(keys.periodic("m"), mapping=record)
    again.end(run_of(2))
    assert again.tick(NOW + 122) == {}
    assert (again.ready(), shown(again).waiting) == ([run_of(1), run_of(2)], False)


def test_missed_fires_that_are_all_made_up_for_run_one_after_another_unless_they_may_overlap(redis_client: redis.Redis) -> None:
    floor = floor_of(redis_client, every_minute(missed=Missed.ALL))
    assert floor.tick(NOW + 200) == {"fired": 1}
    assert floor.ready() == [run_of(1)]
    assert floor.tick(NOW + 240) == {"skipped": 1}, "the run before is one that waits"
    for minute in (2, 3):
        assert floor.follow(NOW + 241) == {}
        floor.end(floor.ready()[-1])
        assert floor.follow(NOW + 241) == {"fired": 1}
        assert floor.ready()[-1] == run_of(minute)
    assert not shown(floor).waiting
    allowed = PeriodicFloor(redis_client, every_minute(Overlap.ALLOW, Missed.ALL))
    allowed.register(NOW + 241)
    assert allowed.promote(NOW + 440) == {"fired": 3}


def test_a_fire_waits_for_another_job_that_has_the_lock_of_its_unique_task(redis_client: redis.Redis) -> None:
    floor = floor_of(redis_client, Periodic("m", minutely_single, every_s=60, overlap=Overlap.QUEUE_ONE))
    calling.enqueue(redis_client, minutely_single.spec(job_id="other", now=NOW), now=NOW)
    assert floor.tick(NOW + 60) == {}
    floor.end("other")
    assert floor.follow(NOW + 61) == {"fired": 1}


# --- pausing -------------------------------------------------------------------------------------


def test_fire_times_pass_without_a_run_while_a_job_is_paused(floor: PeriodicFloor) -> None:
    client = floor.client
    for at in (1, 2):
        schedules.act(client, "pause", "m", NOW + at, by="ann")
    assert shown(floor).paused_at == NOW + 1
    assert floor.tick(NOW + 60) == {}
    again = floor_of(client, every_minute())
    assert again.tick(NOW + 500) == {}
    assert (again.ready(), shown(again).missed, shown(again).skipped) == ([], 0, 0)
    for at in (1, 40):
        schedules.act(client, "resume", "m", NOW + 500 + at, by="ann")
    assert shown(floor).paused_at is None
    assert again.tick(NOW + 539) == {}
    assert again.tick(NOW + 540) == {"fired": 1}
    assert again.ready() == [run_of(9)]


def test_what_fell_into_a_pause_is_not_missed_though_no_scheduler_was_alive(floor: PeriodicFloor) -> None:
    schedules.act(floor.client, "pause", "m", NOW + 1, by="ann")
    schedules.act(floor.client, "resume", "m", NOW + 1_000, by="ann")
    assert floor.tick(NOW + 1_001) == {}
    assert (shown(floor).missed, shown(floor).next_fire_at) == (0, NOW + 1_020)


def test_a_fire_that_waits_goes_on_waiting_while_its_job_is_paused(redis_client: redis.Redis) -> None:
    floor = floor_of(redis_client, every_minute(Overlap.QUEUE_ONE))
    floor.tick(NOW + 60)
    floor.tick(NOW + 120)
    schedules.act(redis_client, "pause", "m", NOW + 121, by="ann")
    floor.end(run_of(1))
    assert floor.tick(NOW + 122) == {}
    schedules.act(redis_client, "resume", "m", NOW + 123, by="ann")
    assert floor.tick(NOW + 124) == {"fired": 1}


def test_a_paused_job_can_be_run_out_of_turn(floor: PeriodicFloor) -> None:
    schedules.act(floor.client, "pause", "m", NOW, by="ann")
    run = schedules.act(floor.client, "run", "m", NOW + 0.25, by="ann")
    assert run == f"cron-m-{NOW * 1000 + 250:.0f}-now"
    assert schedules.act(floor.client, "run", "m", NOW + 0.25, by="ann") == run
    assert floor.ready() == [run]
    assert floor.waiting() == {"cron-m": NOW + 60}


def test_unknown_names_are_refused(redis_client: redis.Redis) -> None:
    for action in get_args(schedules.Action):
        with pytest.raises(NotFound):
            schedules.act(redis_client, action, "yearly", NOW, by="ann")
    with pytest.raises(NotFound):
        schedules.runs(redis_client, "yearly")
    assert list(redis_client.scan_iter()) == []


# --- what became of them -------------------------------------------------------------------------


def followed(floor: PeriodicFloor, minute: int) -> Run:
    """The newest run, after another look."""
    floor.follow(NOW + 60 * minute)
    return schedules.runs(floor.client, "m")[0]


def test_a_run_is_followed_to_its_end_also_when_its_result_is_not_kept(floor: PeriodicFloor, hands: Hands) -> None:
    floor.promote(NOW + 60)
    assert schedules.runs(floor.client, "m") == [Run(run_of(1), NOW + 60)]
    claim = hands.must_claim("ticks", now=NOW + 61)
    assert followed(floor, 1) == Run(run_of(1), NOW + 60, started_at=NOW + 61, outcome="running")
    assert int(claim.hash[b"result_ttl"]) == 600
    floor.end(run_of(1), "finished", ended_at="2027-01-15T08:01:03.500000Z")
    ended = Run(run_of(1), NOW + 60, NOW + 61, NOW + 63.5, 2.5, "finished")
    assert followed(floor, 1) == ended
    before = snapshot(floor.client)
    floor.client.delete(keys.job(run_of(1)))
    del before[keys.job(run_of(1))]
    assert followed(floor, 1) == ended
    assert changes(before, snapshot(floor.client)) == {}


def test_runs_that_fail_are_cancelled_or_vanish_are_told_from_each_other(floor: PeriodicFloor, hands: Hands) -> None:
    floor.promote(NOW + 60)
    hands.fail(hands.must_claim("ticks"), ValueError("once"))
    assert followed(floor, 1).outcome == "waiting"
    hands.promote("ticks")
    hands.fail(hands.must_claim("ticks"), Permanent("no"))
    dead = followed(floor, 1)
    assert dead.outcome == "dead"
    assert None not in (dead.started_at, dead.ended_at, dead.duration_s)
    floor.promote(NOW + 120)
    floor.end(run_of(2), "canceled", ended_at="2027-01-15T08:01:03.500000Z")
    cancelled = followed(floor, 2)
    assert (cancelled.outcome, cancelled.started_at, cancelled.duration_s) == ("cancelled", None, None)
    floor.promote(NOW + 180)
    floor.client.delete(keys.job(run_of(3)))
    assert followed(floor, 3).outcome == "unknown"
    assert [run.outcome for run in schedules.runs(floor.client, "m")] == ["unknown", "cancelled", "dead"]


def test_the_last_twenty_runs_are_kept_and_leave_with_their_job(redis_client: redis.Redis) -> None:
    floor = floor_of(redis_client, every_minute(Overlap.ALLOW))
    for minute in range(1, 26):
        floor.promote(NOW + 60 * minute)
    assert [run.fire_at for run in schedules.runs(redis_client, "m")] == [NOW + 60 * n for n in range(25, 5, -1)]
    assert schedules.last_run(redis_client, "m") == schedules.runs(redis_client, "m")[0]
    PeriodicFloor(redis_client).register(NOW)
    assert schedules.last_run(redis_client, "m") is None
    assert not redis_client.exists(keys.periodic_runs("m"))


def test_a_list_of_runs_that_cannot_be_read_stops_no_other_job(redis_client: redis.Redis) -> None:
    floor = PeriodicFloor(redis_client, Periodic("a", minutely, every_s=60), every_minute())
    floor.tick(NOW)
    redis_client.lpush(keys.periodic_runs("a"), "{")
    floor.promote(NOW + 60)
    floor.end(run_of(1), "finished", started_at="2027-01-15T08:01:01.000000Z", ended_at="2027-01-15T08:01:03.500000Z")
    assert followed(floor, 1).outcome == "finished"
