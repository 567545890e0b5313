"""What others have spoilt of the table's periodic jobs: no fire is lost or doubled by it. No test waits for a time."""

import pytest
import redis
from periodic_floor import PeriodicFloor

from jobs import keys
from jobs.queue import schedules, task
from jobs.queue.periodic import Overlap, Periodic

NOW = 1_800_000_000.0


@task.task(name="test.mended", queue="ticks", result_ttl_s=60)
def mended() -> None:
    pass


def floor_of(client: redis.Redis, overlap: Overlap = Overlap.SKIP) -> PeriodicFloor:
    floor = PeriodicFloor(client, Periodic("m", mended, every_s=60, overlap=overlap))
    floor.register(NOW)
    return floor


def run_of(minute: int) -> str:
    return f"cron-m-{NOW + 60 * minute:.0f}"


@pytest.mark.parametrize("field", ["next_fire_at", "missed", "skipped", "runs", "paused_at", "resumed_at", "last_fire_at"])
@pytest.mark.parametrize("text", ["soon", "nan", "", "1.5.0"])
def test_a_record_that_cannot_be_read_is_restored_as_it_was_last_seen(redis_client: redis.Redis, field: str, text: str) -> None:
    floor = floor_of(redis_client)
    assert floor.tick(NOW + 60) == {"fired": 1}
    floor.register(NOW + 61)
    floor.end(run_of(1))
    redis_client.hset(keys.periodic("m"), field, text)
    assert floor.tick(NOW + 120) == {"fired": 1}
    assert floor.ready() == [run_of(1), run_of(2)]
    [found] = schedules.schedules(redis_client, NOW + 120)
    assert (found.runs, found.missed, found.skipped, found.paused_at, found.next_fire_at) == (2, 0, 0, None, NOW + 180)


def test_a_record_that_nobody_has_seen_and_cannot_be_read_begins_anew(redis_client: redis.Redis) -> None:
    floor_of(redis_client)
    redis_client.hset(keys.periodic("m"), "next_fire_at", "soon")
    assert floor_of(redis_client).waiting() == {"cron-m": NOW + 60}


@pytest.mark.parametrize("key", [keys.queue("ticks"), keys.periodic_runs("m")])
@pytest.mark.parametrize("waits", [False, True])
def test_a_fire_whose_queue_or_runs_are_no_list_is_made_when_they_are(redis_client: redis.Redis, key: str, waits: bool) -> None:
    floor = floor_of(redis_client, Overlap.QUEUE_ONE)
    minute = 1
    if waits:
        assert [floor.tick(NOW + 60 * n) for n in (1, 2)] == [{"fired": 1}, {}]
        floor.end(run_of(1))
        minute = 2
    redis_client.delete(keys.queue("ticks"))
    redis_client.delete(key)
    redis_client.set(key, "?")
    assert floor.tick(NOW + 60 * minute + 1) == {}
    assert not redis_client.exists(keys.job(run_of(minute)))
    redis_client.delete(key)
    assert floor.tick(NOW + 60 * minute + 3) == {"fired": 1}
    assert floor.ready() == [run_of(minute)]


def test_a_leader_of_long_ago_does_not_restore_what_it_saw_then(redis_client: redis.Redis) -> None:
    old, new = floor_of(redis_client), floor_of(redis_client)
    assert new.tick(NOW + 60) == {"fired": 1}
    redis_client.delete(keys.job(run_of(1)), keys.queue("ticks"), keys.periodic("m"))
    old.register(NOW + 90)
    assert old.promote(NOW + 90) == {}
    assert old.waiting() == {"cron-m": NOW + 120}


def test_a_name_that_is_no_text_is_removed(redis_client: redis.Redis) -> None:
    redis_client.sadd(keys.PERIODIC, b"\xff", "a:b", "")
    assert [one.name for one in schedules.schedules(redis_client, NOW)] == ["", "a:b", "�"]
    floor_of(redis_client)
    assert redis_client.smembers(keys.PERIODIC) == {b"m"}


def test_a_fire_that_came_due_before_a_pause_and_was_not_made_passes_too(redis_client: redis.Redis) -> None:
    floor = floor_of(redis_client)
    schedules.act(redis_client, "pause", "m", NOW + 61, by="ann")
    assert floor.tick(NOW + 62) == {}
    schedules.act(redis_client, "resume", "m", NOW + 63, by="ann")
    assert floor.tick(NOW + 64) == {}
    assert (floor.ready(), floor.waiting()) == ([], {"cron-m": NOW + 120})
