"""What was left behind comes back: expired leases, ids that a stock worker dropped, registries that disagree."""

import time

import redis
import sample_tasks
from hands import Hands
from job_watch import LIMIT_S, result, send, wait_until
from processes import Processes, wait_for

from jobs import keys
from jobs.queue import calling, claiming, dead_letters, task
from jobs.queue.script import QUEUE_DIR, script
from scheduler.reclaim import RECLAIM, Reclamation
from scheduler.registries import Registries
from scheduler.sweep import Sweep, requeue

EXTEND = script(QUEUE_DIR / "extend.lua")
LEASE_S = 4.0
NOW = 1_800_000_000.0


@task.task(name="test.carry", queue="q", result_ttl_s=60)
def carry() -> None:
    pass


def add(client: redis.Redis, job_id: str, now: float = NOW) -> str:
    calling.enqueue(client, carry.spec(job_id=job_id, now=now), now=now)
    return job_id


def claim(client: redis.Redis, execution: str, now: float = NOW) -> None:
    claiming.claim(client, ["q"], "w", 10, now=now, executions=[execution])


def ready(client: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue("q"), 0, -1)]


# --- leases --------------------------------------------------------------------------------------


def test_an_expired_lease_puts_the_job_in_front_and_burns_no_attempt(redis_client: redis.Redis) -> None:
    add(redis_client, "a")
    add(redis_client, "b")
    claim(redis_client, "e1")
    duty = Reclamation(redis_client)
    assert duty.tick(NOW + 9.9)["reclaimed"] == 0
    assert duty.tick(NOW + 10.1)["reclaimed"] == 1
    assert duty.tick(NOW + 10.1)["reclaimed"] == 0
    assert ready(redis_client) == ["a", "b"]
    assert redis_client.hmget(keys.job("a"), "status", "crashes", "failures") == [b"queued", b"1", None]
    assert redis_client.zcard(keys.wip("q")) == 0


def test_the_third_crash_in_a_row_is_named_twice_over_and_then_quarantined(redis_client: redis.Redis) -> None:
    add(redis_client, "a")
    for crash in range(3):
        claim(redis_client, f"e{crash}", NOW + 20 * crash)
        at = NOW + 20 * crash + 11
        if crash < 2:
            assert Reclamation(redis_client).tick(at)["reclaimed"] == 1
    for _ in range(2):
        assert RECLAIM(redis_client, [keys.wip("q")], ["q", repr(at), 100, 3]) == [[], [b"a:e2"], 0]
    assert Reclamation(redis_client).tick(at)["quarantined"] == 1
    assert dead_letters.get(redis_client, "a").error_type == "Quarantined"
    assert (ready(redis_client), redis_client.zcard(keys.wip("q"))) == ([], 0)
    assert Reclamation(redis_client).tick(at)["quarantined"] == 0


def test_a_queue_that_cannot_be_read_does_not_keep_the_others_from_being_reclaimed(redis_client: redis.Redis) -> None:
    redis_client.sadd(keys.QUEUES, keys.queue("broken"))
    redis_client.set(keys.wip("broken"), "no set")
    add(redis_client, "a")
    claim(redis_client, "e1")
    assert Reclamation(redis_client).tick(NOW + 11)["reclaimed"] == 1


def test_a_success_forgets_the_crashes_before_it(redis_client: redis.Redis, hands: Hands) -> None:
    add(redis_client, "a")
    for crash in range(2):
        claim(redis_client, f"e{crash}", NOW + 20 * crash)
        assert Reclamation(redis_client).tick(NOW + 20 * crash + 11)["reclaimed"] == 1
    hands.finish(hands.must_claim("q"))
    assert redis_client.hmget(keys.job("a"), "status", "crashes") == [b"finished", None]


def test_the_next_look_is_just_when_a_lease_of_any_queue_runs_out_and_never_later_than_half_a_second(
    redis_client: redis.Redis,
) -> None:
    duty = Reclamation(redis_client)
    waits = []
    redis_client.sadd(keys.QUEUES, keys.queue("idle"), keys.queue("other"))
    redis_client.zadd(keys.wip("other"), {"gone:e": NOW + 30})
    add(redis_client, "a")
    claim(redis_client, "e1")
    for after in (0, 9.75, 10):
        duty.tick(NOW + after)
        waits.append(duty.interval_s)
    assert waits == [0.5, 0.25, 0.0], "after a batch there may be more"
    duty.tick(NOW + 29.875)
    assert duty.interval_s == 0.125


def test_a_lease_that_was_ended_at_once_is_taken_at_the_next_look(redis_client: redis.Redis) -> None:
    add(redis_client, "a")
    claim(redis_client, "e1")
    assert EXTEND(redis_client, [keys.wip("q")], [repr(NOW + 1), "a:e1"]) == []
    assert Reclamation(redis_client).tick(NOW + 1)["reclaimed"] == 1


def test_the_leases_of_all_queues_are_looked_at_in_as_many_round_trips_as_those_of_one(redis_client: redis.Redis) -> None:
    duty = Reclamation(redis_client)

    def reads_of_a_look() -> int:
        duty.tick(NOW)
        redis_client.config_resetstat()
        duty.tick(NOW)
        return int(redis_client.info("stats")["total_reads_processed"])

    add(redis_client, "a")
    few = reads_of_a_look()
    redis_client.sadd(keys.QUEUES, *(keys.queue(f"q{number}") for number in range(50)))
    assert reads_of_a_look() == few


def test_a_job_that_kills_its_child_three_times_is_quarantined_within_seconds_and_the_worker_lives(
    redis_client: redis.Redis, processes: Processes
) -> None:
    worker, _scheduler = processes.worker("default"), processes.start("python", "-m", "scheduler")
    worker.prints("worker started")
    wait_for(lambda: redis_client.exists(keys.SCHEDULER_LOCK), LIMIT_S, "the scheduler leads")
    at = time.monotonic()
    send(redis_client, sample_tasks.die.spec(job_id="poison"))
    wait_until(redis_client, "poison", "failed")
    assert time.monotonic() - at < LEASE_S, "no lease was waited for"
    letter = dead_letters.get(redis_client, "poison")
    assert (letter.error_type, [attempt.error_type for attempt in letter.attempts]) == ("Quarantined", ["Quarantined"])
    assert redis_client.hget(keys.totals("default"), "reclaimed") == b"2"
    assert result(redis_client, send(redis_client, sample_tasks.add.spec(1, 2))) == 3
    assert worker.runs


# --- jobs in no list -----------------------------------------------------------------------------


def test_an_id_parked_for_ten_seconds_is_requeued_once_in_front(redis_client: redis.Redis) -> None:
    add(redis_client, "parked")
    redis_client.lmove(keys.queue("q"), keys.intermediate("q"), "LEFT", "RIGHT")
    add(redis_client, "b")
    duty = Sweep(redis_client)
    assert duty.tick(NOW)["requeued"] == 0
    assert duty.tick(NOW + 9)["requeued"] == 0
    assert duty.tick(NOW + 11)["requeued"] == 1
    assert ready(redis_client) == ["parked", "b"]
    assert redis_client.llen(keys.intermediate("q")) == 0
    assert not requeue(redis_client, "q", "parked", NOW)


def test_a_parked_id_that_was_started_in_the_meantime_is_left_to_its_worker(redis_client: redis.Redis) -> None:
    add(redis_client, "a")
    claim(redis_client, "e1")
    redis_client.rpush(keys.intermediate("q"), "a")
    assert not requeue(redis_client, "q", "a", NOW)
    redis_client.hset(keys.job("a"), "status", "queued")
    assert not requeue(redis_client, "q", "a", NOW)
    assert ready(redis_client) == []


def test_a_queued_job_that_is_in_no_list_is_found_and_requeued_once(redis_client: redis.Redis) -> None:
    for job_id in ("lost", "waits", "delayed"):
        add(redis_client, job_id)
    redis_client.lrem(keys.queue("q"), 1, "lost")
    redis_client.lrem(keys.queue("q"), 1, "delayed")
    redis_client.zadd(keys.scheduled("q"), {"delayed": NOW})
    redis_client.lpush(keys.queue("q"), add(redis_client, "head", NOW + 5))
    redis_client.lrem(keys.queue("q"), -1, "head")
    duty = Sweep(redis_client)
    assert [duty.tick(NOW + after)["requeued"] for after in (29, 35, 40, 46, 48, 60)] == [0, 0, 0, 1, 0, 0]
    assert redis_client.zrange(keys.scheduled("q"), 0, -1) == [b"delayed"]
    assert ready(redis_client) == ["lost", "head", "waits"]


def test_a_lost_job_that_belongs_to_a_state_is_left_to_the_reconciler(redis_client: redis.Redis) -> None:
    redis_client.hset(keys.job(add(redis_client, "a")), "owned", "1")
    redis_client.delete(keys.queue("q"))
    duty = Sweep(redis_client)
    assert sum(duty.tick(NOW + after)["requeued"] for after in (60, 75, 90)) == 0


# --- registries ----------------------------------------------------------------------------------


def test_a_worker_whose_hash_expired_is_forgotten_everywhere(redis_client: redis.Redis) -> None:
    add(redis_client, "a")
    for registry in (keys.WORKERS, f"{keys.WORKERS}:q"):
        redis_client.sadd(registry, keys.worker("dead"), keys.worker("alive"))
    redis_client.hset(keys.worker("alive"), "birth", "now")
    for _ in range(2):
        Registries(redis_client).tick(NOW)
        for registry in (keys.WORKERS, f"{keys.WORKERS}:q"):
            assert redis_client.smembers(registry) == {keys.worker("alive").encode()}


def test_the_index_of_dead_letters_follows_rqs_registries(redis_client: redis.Redis) -> None:
    add(redis_client, "stock")
    add(redis_client, "requeued")
    add(redis_client, "buried")
    redis_client.hset(keys.job("buried"), "died_at", NOW - 5)
    redis_client.zadd(keys.failed("q"), {"stock": NOW + 100, "buried": NOW - 5})
    redis_client.zadd(keys.DEAD, {"requeued": NOW - 5, "buried": NOW - 5})
    for after in range(2):
        Registries(redis_client).tick(NOW + after)
        assert redis_client.zrange(keys.DEAD, 0, -1, withscores=True) == [(b"buried", NOW - 5), (b"stock", NOW)]
    assert redis_client.zrange(keys.failed("q"), 0, -1) == [b"buried", b"stock"]
