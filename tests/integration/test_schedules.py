"""The periodic jobs of the table: registered, fired once a fire time, shown. The clock is an argument, no test waits."""

import pytest
import redis

from jobs import keys
from jobs.errors import Conflict, InvalidField, NotFound
from jobs.queue import calling, schedules, task
from jobs.queue.periodic import Periodic
from jobs.queue.schedules import delayed, run_now
from scheduler.periodic import Registration
from scheduler.promote import Promotion
from scheduler.scheduler import TurnstileScheduler

NOW = 1_800_000_000.0
"""A full hour."""
FIVE_PAST = NOW + 300


@task.task(name="test.tock", queue="ticks", result_ttl_s=60)
def tock(depth: int = 1) -> int:
    return depth


HOURLY = Periodic("hourly", tock, "5 * * * *", args=(2,))


def promotion(client: redis.Redis, *table: Periodic) -> Promotion:
    return Promotion(client, table)


def ready(client: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue("ticks"), 0, -1)]


def waiting(client: redis.Redis) -> dict[str, float]:
    return {job_id.decode(): due_at for job_id, due_at in client.zrange(keys.SCHEDULED_JOBS, 0, -1, withscores=True)}


def hold(client: redis.Redis, job_id: str, due_at: float) -> None:
    calling.enqueue(client, tock.spec(job_id=job_id, now=NOW), now=NOW, due_at=due_at)


def field(client: redis.Redis, job_id: str, name: str) -> str:
    return (client.hget(keys.job(job_id), name) or b"").decode()


def test_registering_at_every_boot_adds_nothing(redis_client: redis.Redis) -> None:
    Registration(redis_client, [HOURLY]).tick(NOW)
    before = redis_client.hgetall(keys.job("cron-hourly"))
    Registration(redis_client, [HOURLY]).tick(NOW + 1)
    assert redis_client.hgetall(keys.job("cron-hourly")) == before
    assert waiting(redis_client) == {"cron-hourly": FIVE_PAST}
    shown = next(iter(TurnstileScheduler(connection=redis_client).get_jobs()))
    assert (shown.id, shown.args) == ("cron-hourly", [2])
    listed = schedules.schedules(redis_client, NOW)[0]
    assert (listed.cron, listed.timezone, listed.task, listed.queue) == ("5 * * * *", "UTC", "test.tock", "ticks")


def test_two_periodic_jobs_of_one_name_are_refused(redis_client: redis.Redis) -> None:
    with pytest.raises(ValueError, match="same name"):
        promotion(redis_client, HOURLY, Periodic("hourly", tock, "0 0 * * *"))


def test_changed_times_move_the_fire_and_removed_names_vanish(redis_client: redis.Redis) -> None:
    other = Periodic("other", tock, "0 0 * * *")
    Registration(redis_client, [HOURLY, other]).tick(NOW)
    Registration(redis_client, [Periodic("hourly", tock, "10 * * * *")]).tick(NOW)
    assert waiting(redis_client) == {"cron-hourly": NOW + 600}
    assert not redis_client.exists(keys.job("cron-other"), keys.periodic("other"))
    assert [schedule.name for schedule in schedules.schedules(redis_client, NOW)] == ["hourly"]


@pytest.mark.parametrize("lost", [keys.job("cron-hourly"), keys.SCHEDULED_JOBS, keys.periodic("hourly"), keys.PERIODIC])
def test_a_deleted_definition_is_restored(redis_client: redis.Redis, lost: str) -> None:
    registration = Registration(redis_client, [HOURLY])
    registration.tick(NOW)
    redis_client.delete(lost)
    registration.tick(NOW)
    assert waiting(redis_client) == {"cron-hourly": FIVE_PAST}
    assert redis_client.exists(keys.job("cron-hourly"), keys.periodic("hourly"), keys.PERIODIC) == 3


def test_a_fire_that_came_due_while_the_definition_was_deleted_still_happens(redis_client: redis.Redis) -> None:
    Registration(redis_client, [HOURLY]).tick(NOW)
    redis_client.delete(keys.job("cron-hourly"))
    assert promotion(redis_client, HOURLY).tick(FIVE_PAST) == {"promoted": 0, "unknown": 1}
    Registration(redis_client, [HOURLY]).tick(FIVE_PAST + 9)
    assert promotion(redis_client, HOURLY).tick(FIVE_PAST + 9)["fired"] == 1
    assert ready(redis_client) == [f"cron-hourly-{FIVE_PAST:.0f}"]


def test_one_fire_time_runs_once_however_often_it_is_asked_for(redis_client: redis.Redis) -> None:
    Registration(redis_client, [HOURLY]).tick(NOW)
    outcomes = [schedules.fire(redis_client, "hourly", FIVE_PAST, FIVE_PAST + 3600, FIVE_PAST) for _ in range(3)]
    assert outcomes == ["fired", "late", "late"]
    run = f"cron-hourly-{FIVE_PAST:.0f}"
    assert ready(redis_client) == [run]
    assert waiting(redis_client) == {"cron-hourly": FIVE_PAST + 3600}
    shown = schedules.schedules(redis_client, FIVE_PAST)[0]
    assert (shown.last_job_id, shown.last_fire_at, shown.next_fire_at, shown.runs) == (run, FIVE_PAST, FIVE_PAST + 3600, 1)
    assert (field(redis_client, run, "status"), field(redis_client, run, "task")) == ("queued", "test.tock")
    assert field(redis_client, run, "created_at") == "2027-01-15T08:05:00.000000Z"


def test_missed_fires_are_one_run(redis_client: redis.Redis) -> None:
    Registration(redis_client, [HOURLY]).tick(NOW)
    assert schedules.schedules(redis_client, FIVE_PAST + 5 * 3600)[0].overdue_s == 5 * 3600
    promotion(redis_client, HOURLY).tick(FIVE_PAST + 5 * 3600 + 1)
    assert ready(redis_client) == [f"cron-hourly-{FIVE_PAST:.0f}"]
    assert waiting(redis_client) == {"cron-hourly": FIVE_PAST + 6 * 3600}


@pytest.mark.parametrize("status", ["queued", "started", "scheduled"])
def test_a_run_is_not_overlapped_by_the_next(redis_client: redis.Redis, status: str) -> None:
    Registration(redis_client, [HOURLY]).tick(NOW)
    mover = promotion(redis_client, HOURLY)
    mover.tick(FIVE_PAST)
    redis_client.hset(keys.job(f"cron-hourly-{FIVE_PAST:.0f}"), "status", status)
    assert mover.tick(FIVE_PAST + 3600)["skipped"] == 1
    assert len(ready(redis_client)) == 1
    with pytest.raises(Conflict):
        run_now(redis_client, "hourly", FIVE_PAST + 3601)
    redis_client.hset(keys.job(f"cron-hourly-{FIVE_PAST:.0f}"), "status", "failed")
    assert mover.tick(FIVE_PAST + 7200)["fired"] == 1
    assert schedules.schedules(redis_client, NOW)[0].skipped == 1


def test_a_run_out_of_turn_leaves_the_times_alone_and_is_not_doubled(redis_client: redis.Redis) -> None:
    Registration(redis_client, [HOURLY]).tick(NOW)
    assert run_now(redis_client, "hourly", NOW + 0.25) == f"cron-hourly-{NOW * 1000 + 250:.0f}-now"
    assert run_now(redis_client, "hourly", NOW + 0.25) == ready(redis_client)[0]
    assert len(ready(redis_client)) == 1
    assert waiting(redis_client) == {"cron-hourly": FIVE_PAST}
    with pytest.raises(NotFound):
        run_now(redis_client, "yearly", NOW)


def test_delayed_jobs_are_listed_in_pages_without_the_periodic_ones(redis_client: redis.Redis) -> None:
    Registration(redis_client, [HOURLY]).tick(NOW)
    for number in range(5):
        hold(redis_client, f"same-{number}", NOW + 9)
    redis_client.zadd(keys.scheduled("ticks"), {"same-2": NOW + 9, "gone": NOW + 1})
    redis_client.zrem(keys.SCHEDULED_JOBS, "same-2")
    redis_client.sadd(keys.QUEUES, keys.queue("ticks"))
    found: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page = delayed(redis_client, 2, cursor)
        found += [entry.id for entry in page.scheduled]
        cursor = page.next_cursor
    assert found == [f"same-{number}" for number in range(5)]
    assert cursor is None
    assert {(entry.task, entry.queue, entry.due_at) for entry in page.scheduled} == {("test.tock", "ticks", NOW + 9)}
    with pytest.raises(InvalidField):
        delayed(redis_client, 2, "nan:x")


# --- runs of tasks with options ------------------------------------------------------------------


@task.task(name="test.brief", queue="ticks", expires_s=90.0)
def brief() -> None:
    pass


@task.task(name="test.single", queue="ticks", unique=True)
def single() -> None:
    pass


def test_a_run_expires_as_long_after_its_fire_as_its_task_says(redis_client: redis.Redis) -> None:
    periodic = Periodic("brief", brief, "5 * * * *")
    Registration(redis_client, [periodic]).tick(NOW)
    assert promotion(redis_client, periodic).tick(FIVE_PAST + 1)["fired"] == 1
    assert float(field(redis_client, ready(redis_client)[0], "expires_at")) == FIVE_PAST + 1 + 90


def test_a_run_of_a_unique_task_is_skipped_while_another_job_has_the_lock_and_takes_it_otherwise(
    redis_client: redis.Redis,
) -> None:
    periodic = Periodic("single", single, "5 * * * *")
    Registration(redis_client, [periodic]).tick(NOW)
    calling.enqueue(redis_client, single.spec(job_id="other", now=NOW), now=NOW)
    assert promotion(redis_client, periodic).tick(FIVE_PAST)["skipped"] == 1
    redis_client.hset(keys.job("other"), "status", "finished")
    assert promotion(redis_client, periodic).tick(FIVE_PAST + 3600)["fired"] == 1
    assert not calling.enqueue(redis_client, single.spec(job_id="third", now=NOW), now=NOW)


def test_delayed_jobs_that_are_promoted_while_the_list_is_read_shift_no_other(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "PAGE", 4)
    for number in range(12):
        hold(redis_client, f"j{number:02}", NOW + number)
    waiting_jobs = schedules._waiting(redis_client, keys.SCHEDULED_JOBS, (float("-inf"), ""))
    first = [next(waiting_jobs)[1] for _ in range(4)]
    assert promotion(redis_client).tick(NOW + 2)["promoted"] == 3
    assert [*first, *(job_id for _due_at, job_id in waiting_jobs)] == [f"j{number:02}" for number in range(12)]
