"""What cannot be promoted: it becomes a dead letter with the reason, or is tried again later; the rest goes on."""

from typing import Any

import pytest
import redis
import sample_tasks
from letters import check_index
from processes import Processes, wait_for
from rq.job import Job
from rq.registry import FailedJobRegistry

from jobs import key_patterns, keys
from jobs.connections import is_away
from jobs.queue import calling, dead_letters
from jobs.queue.canvas import group
from jobs.queue.canvas_handle import launch
from scheduler.duty import Counts
from scheduler.promote import AGAIN_S, BATCH, PROMOTE, Promotion
from scheduler.registries import Registries

NOW = 1_800_000_000.0
LIMIT_S = 60.0
PLACES = [keys.SCHEDULED_JOBS, keys.QUEUES]


def promotion(client: redis.Redis) -> Promotion:
    return Promotion(client, lambda _definition, _now: {}, lambda _job_id, _due_at, _now: {})


def ready(client: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue("default"), 0, -1)]


def hold(client: redis.Redis, job_id: str, due_at: float = NOW) -> str:
    calling.enqueue(client, sample_tasks.add.spec(1, 2, job_id=job_id, now=NOW), now=NOW, due_at=due_at)
    return job_id


def put_a_string(client: redis.Redis) -> str:
    client.set(keys.job("bad"), "?")
    client.zadd(keys.SCHEDULED_JOBS, {"bad": NOW - 9})
    return "its key held a string instead of a hash"


def put_a_list_in_a_queue_s_registry(client: redis.Redis) -> str:
    client.rpush(keys.job("bad"), "?")
    client.sadd(keys.QUEUES, keys.queue("default"))
    client.zadd(keys.scheduled("default"), {"bad": NOW - 9})
    return "its key held a list instead of a hash"


def take_the_data_away(client: redis.Redis) -> str:
    client.hdel(keys.job(hold(client, "bad", NOW - 9)), "data")
    client.expire(keys.job("bad"), 100)
    return "it has no data: neither function nor arguments"


@pytest.mark.parametrize("spoil", [put_a_string, put_a_list_in_a_queue_s_registry, take_the_data_away])
def test_a_job_that_cannot_be_read_becomes_a_dead_letter_with_the_reason_and_the_rest_goes_on(
    redis_client: redis.Redis, spoil: Any
) -> None:
    reason = spoil(redis_client)
    hold(redis_client, "good")
    for _ in range(2):
        counts = promotion(redis_client).tick(NOW)
    assert (counts["promoted"], counts["unreadable"], ready(redis_client)) == (0, 0, ["good"])
    assert redis_client.zcard(keys.SCHEDULED_JOBS) == redis_client.zcard(keys.scheduled("default")) == 0
    [letter], _next = dead_letters.page(redis_client, group=None, cursor=None, limit=10)
    assert (letter.id, letter.queue, letter.error_type, letter.error) == ("bad", "default", "Unreadable", reason)
    assert [group.error for group in dead_letters.groups(redis_client)] == [reason]
    assert redis_client.ttl(keys.job("bad")) == -1, "a dead letter never expires"
    assert redis_client.hget(keys.totals("default"), "dead") == b"1"
    check_index(redis_client)
    # RQ's own tools read it.
    assert FailedJobRegistry("default", connection=redis_client).get_job_ids() == ["bad"]
    assert Job.fetch("bad", connection=redis_client).get_status().value == "failed"


def test_what_stood_in_a_job_s_place_is_kept_for_a_while(redis_client: redis.Redis) -> None:
    put_a_string(redis_client)
    assert promotion(redis_client).tick(NOW)["unreadable"] == 1
    kept = keys.unreadable("bad")
    assert redis_client.get(kept) == b"?"
    assert 29 * 86_400 < redis_client.ttl(kept) <= 30 * 86_400
    assert [entry.name for entry in key_patterns.of(kept)][:1] == ["unreadable"]


def test_a_scheduler_that_dies_in_between_leaves_the_dead_letter_to_the_next_one(redis_client: redis.Redis) -> None:
    reason = put_a_string(redis_client)
    *_, unreadable = PROMOTE(redis_client, PLACES, [repr(NOW), BATCH, 0])
    assert unreadable == [[b"bad", b"default", reason.encode()]]
    assert PROMOTE(redis_client, PLACES, [repr(NOW), BATCH, 0])[-1] == []
    Registries(redis_client).tick(NOW + 5)
    assert dead_letters.get(redis_client, "bad").error == reason
    check_index(redis_client)


def test_a_member_of_a_canvas_that_cannot_be_read_does_not_leave_it_waiting(redis_client: redis.Redis) -> None:
    handle = launch(redis_client, group(sample_tasks.add.s(1, 2)))
    job_id = ready(redis_client)[0]
    redis_client.delete(keys.queue("default"))
    redis_client.hset(keys.job(job_id), "status", "scheduled")
    redis_client.hdel(keys.job(job_id), "data")
    redis_client.zadd(keys.SCHEDULED_JOBS, {job_id: NOW})
    assert promotion(redis_client).tick(NOW)["unreadable"] == 1
    assert redis_client.hget(keys.canvas(handle.id), "failed") == b"1"


def test_a_letter_without_data_that_is_redriven_dies_again_of_it(redis_client: redis.Redis, processes: Processes) -> None:
    put_a_string(redis_client)
    promotion(redis_client).tick(NOW)
    dead_letters.redrive(redis_client, "bad")
    processes.worker("default")
    wait_for(lambda: dead_letters.count(redis_client), LIMIT_S, "the worker makes it a dead letter")
    assert "not a JSON call" in dead_letters.get(redis_client, "bad").error


def test_a_job_whose_queue_is_no_list_is_a_dead_letter_that_can_be_redriven_later(redis_client: redis.Redis) -> None:
    redis_client.hset(keys.job(hold(redis_client, "barred")), "origin", "odd")
    redis_client.hset(keys.job(hold(redis_client, "queued")), mapping={"origin": "odd", "status": "queued", "enqueued_at": "?"})
    hold(redis_client, "good")
    redis_client.set(keys.queue("odd"), "?")
    counts = promotion(redis_client).tick(NOW)
    assert (counts["promoted"], counts["unreadable"], ready(redis_client)) == (1, 1, ["good"])
    assert dead_letters.get(redis_client, "barred").error == "rq:queue:odd is not a list"
    redis_client.delete(keys.queue("odd"))
    dead_letters.redrive(redis_client, "barred")
    assert redis_client.lrange(keys.queue("odd"), 0, -1) == [b"barred"]


def test_periodic_jobs_that_are_not_moved_on_bar_nobody_s_way_and_are_tried_again_once_a_second(
    redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(BATCH + 50):
        redis_client.sadd(keys.PERIODIC, f"p{number}")
        redis_client.zadd(keys.SCHEDULED_JOBS, {f"cron-p{number}": NOW - 100})
    hold(redis_client, "good")
    asked: list[str] = []

    def fire(definition: str, _now: float) -> Counts:
        asked.append(definition)
        if definition == "cron-p7":
            raise ValueError("no such time")
        return {}

    mover = Promotion(redis_client, fire, lambda _job_id, _due_at, _now: {}, monotonic=lambda: 0.0)
    assert mover.tick(NOW)["promoted"] == 1
    assert mover.interval_s > 0, "what is not moved on is no reason to hurry"
    assert len(asked) == len(set(asked)) == BATCH + 50
    assert "no such time" in capsys.readouterr().out
    mover.tick(NOW + AGAIN_S / 2)
    assert len(asked) == BATCH + 50
    mover.tick(NOW + AGAIN_S)
    assert len(asked) == 2 * (BATCH + 50)


def test_a_definition_that_is_due_again_at_another_time_is_handed_over_at_once(redis_client: redis.Redis) -> None:
    redis_client.sadd(keys.PERIODIC, "p")
    redis_client.zadd(keys.SCHEDULED_JOBS, {"cron-p": NOW})
    mover = Promotion(
        redis_client,
        lambda definition, now: {"fired": int(redis_client.zadd(keys.SCHEDULED_JOBS, {definition: now + 0.01}, ch=True))},
        lambda _job_id, _due_at, _now: {},
    )
    assert [mover.tick(NOW + number / 100)["fired"] for number in range(3)] == [1, 1, 1]


def test_a_full_redis_is_waited_for_with_what_cannot_be_read_too(redis_client: redis.Redis) -> None:
    hold(redis_client, "good")
    take_the_data_away(redis_client)
    redis_client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(redis.exceptions.ResponseError) as caught:
            promotion(redis_client).tick(NOW)
    finally:
        redis_client.config_set("maxmemory", "0")
    assert is_away(caught.value)
    assert (ready(redis_client), dead_letters.count(redis_client)) == ([], 0)
    assert redis_client.zcard(keys.SCHEDULED_JOBS) == 2


def test_an_id_of_rq_s_registry_may_be_there_before_its_job(redis_client: redis.Redis) -> None:
    hold(redis_client, "late")
    fields = redis_client.hgetall(keys.job("late"))
    redis_client.delete(keys.job("late"), keys.SCHEDULED_JOBS)
    for due_at in (NOW, NOW - 3_600):  # Queue.enqueue_in(timedelta(0)), and enqueue_at for a time that is past
        redis_client.zadd(keys.scheduled("default"), {"late": due_at})
        mover = promotion(redis_client)
        assert mover.tick(NOW)["promoted"] == 0
        redis_client.hset(keys.job("late"), mapping=fields)
        assert mover.tick(NOW + 2)["promoted"] == 1
        assert ready(redis_client) == ["late"]
        redis_client.delete(keys.job("late"), keys.queue("default"))


def test_ten_thousand_ids_without_a_job_bar_nobody_s_way_and_go_after_a_second(redis_client: redis.Redis) -> None:
    hold(redis_client, "good")
    redis_client.zadd(keys.scheduled("default"), {f"gone-{number}": NOW - 100 for number in range(10_000)})
    mover = Promotion(redis_client, lambda *_: {}, lambda *_: {}, monotonic=lambda: 0.0)
    counts = mover.tick(NOW)
    assert (counts["promoted"], counts["dangling"], ready(redis_client)) == (1, 0, ["good"])
    assert mover.interval_s > 0
    assert mover.tick(NOW + 2)["dangling"] == 10_000
    assert redis_client.zcard(keys.scheduled("default")) == 0


def test_a_second_key_that_cannot_be_read_leaves_the_first_one_kept(redis_client: redis.Redis) -> None:
    for text in ("first", "second", "third"):
        redis_client.delete(keys.job("bad"))
        redis_client.set(keys.job("bad"), text)
        redis_client.zadd(keys.SCHEDULED_JOBS, {"bad": NOW})
        assert promotion(redis_client).tick(NOW)["unreadable"] == 1
    kept = list(redis_client.scan_iter(keys.unreadable("bad") + "*"))
    assert {redis_client.get(key) for key in kept} == {b"first", b"second", b"third"}
    assert all(redis_client.ttl(key) > 0 and key_patterns.of(key.decode()) for key in kept)


def test_a_set_that_is_no_sorted_set_stops_no_other(redis_client: redis.Redis) -> None:
    redis_client.set(keys.scheduled("odd"), "?")
    redis_client.sadd(keys.QUEUES, keys.queue("odd"))
    hold(redis_client, "good")
    assert promotion(redis_client).tick(NOW)["promoted"] == 1
