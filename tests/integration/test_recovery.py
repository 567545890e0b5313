"""What was left behind comes back: expired leases, registries that disagree. What stock workers dropped: test_sweep.py."""

import itertools
import time

import pytest
import redis
import sample_tasks
from hands import Hands
from job_watch import LIMIT_S, result, send, wait_until
from processes import Processes, wait_for
from snapshots import changes, snapshot

from jobs import keys
from jobs.queue import calling, claiming, dead_letters, ending, task
from jobs.queue.script import QUEUE_DIR, script
from scheduler import reclaim
from scheduler.reclaim import RECLAIM, Reclamation
from scheduler.registries import COUNT, GHOST_STEPS, STEPS, Registries

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


def test_entries_of_jobs_that_do_not_run_are_removed_and_nothing_runs_again(redis_client: redis.Redis, hands: Hands) -> None:
    add(redis_client, "finished")
    hands.finish(hands.must_claim("q"))
    for job_id, status in {"retries": "scheduled", "dead": "failed", "stopped": "stopped", "waits": "queued"}.items():
        redis_client.hset(keys.job(add(redis_client, job_id)), "status", status)
    redis_client.ltrim(keys.queue("q"), -1, -1)
    redis_client.zadd(keys.scheduled("q"), {"retries": NOW + 60})
    redis_client.set(keys.job("planted"), "no hash")
    ghosts = ("finished", "retries", "dead", "stopped", "waits", "planted", "gone")
    # As a stock worker writes them, and as ours do.
    redis_client.zadd(keys.wip("q"), {f"{job_id}:{execution}": NOW for job_id in ghosts for execution in ("0c5f", "6e-0")})
    before = snapshot(redis_client)
    duty = Reclamation(redis_client)
    assert duty.tick(NOW - 1) == {}
    assert dict(duty.tick(NOW + 1)) == {"reclaimed": 0, "ghosts": 14}
    assert duty.tick(NOW + 1) == {}
    assert set(changes(before, snapshot(redis_client))) == {keys.wip("q")}
    assert ready(redis_client) == ["waits"]


def test_a_job_that_a_stock_worker_was_about_to_put_off_when_it_ended_runs_again(redis_client: redis.Redis) -> None:
    """RQ 2.12 writes the status `scheduled` first, then the time of the retry, then that the worker has it no more."""
    add(redis_client, "a")
    redis_client.ltrim(keys.queue("q"), 1, 0)
    redis_client.hset(keys.job("a"), "status", "scheduled")
    redis_client.zadd(keys.wip("q"), {"a:0c5f": NOW})
    assert dict(Reclamation(redis_client).tick(NOW + 1)) == {"reclaimed": 1, "ghosts": 0}
    assert ready(redis_client) == ["a"]
    assert redis_client.hmget(keys.job("a"), "status", "crashes") == [b"queued", b"1"]


def test_a_job_that_cannot_be_quarantined_is_put_off_and_does_not_stand_in_the_way_of_others(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclaim, "BATCH", 1)
    bury = ending.bury_crashed

    def refuses(client: redis.Redis, queue: str, member: str, now: float) -> ending.Written:
        if member.startswith("bad:"):
            raise ValueError(member)
        return bury(client, queue, member, now)

    monkeypatch.setattr(ending, "bury_crashed", refuses)
    add(redis_client, "bad")
    add(redis_client, "poison")
    redis_client.hset(keys.job("bad"), "crashes", "2")
    redis_client.hset(keys.job("poison"), "crashes", "2")
    claim(redis_client, "e1")
    claim(redis_client, "e2")
    duty = Reclamation(redis_client, monotonic=lambda: 0.0)
    seen = [duty.tick(NOW + 11 + after)["quarantined"] for after in range(3)]
    assert seen == [0, 1, 0]
    assert redis_client.zrange(keys.wip("q"), 0, -1, withscores=True) == [(b"bad:e1", NOW + 11 + reclaim.PUT_OFF_S)]
    monkeypatch.setattr(ending, "bury_crashed", bury)
    assert duty.tick(NOW + 12 + reclaim.PUT_OFF_S)["quarantined"] == 1
    assert {letter.id for letter in dead_letters.page(redis_client, group=None, cursor=None, limit=9)[0]} == {"bad", "poison"}


def test_a_tick_ends_after_a_while_and_the_next_begins_where_leases_ran_out_first(redis_client: redis.Redis) -> None:
    for number in range(5):
        queue = f"q{number}"
        calling.enqueue(redis_client, carry.spec(job_id=queue, now=NOW, queue=queue), now=NOW)
        claiming.claim(redis_client, [queue], "w", 10 - number, now=NOW, executions=["e"])
    instants = itertools.count(0, reclaim.TICK_S / 2.5)
    duty = Reclamation(redis_client, monotonic=lambda: next(instants))
    order: list[int] = []
    while redis_client.exists(*(keys.wip(f"q{number}") for number in range(5))):
        assert duty.tick(NOW + 11)["reclaimed"] == min(2, 5 - len(order))
        assert duty.interval_s == 0.0
        order += [number for number in range(5) if redis_client.llen(keys.queue(f"q{number}")) and number not in order][::-1]
    assert order == [4, 3, 2, 1, 0]


def test_ten_thousand_leases_that_run_out_at_once_are_reclaimed_in_bounded_steps(redis_client: redis.Redis) -> None:
    ids = [add(redis_client, f"j{number}") for number in range(10_000)]
    for hundred in range(100):
        executions = [f"e{hundred}-{number}" for number in range(100)]
        claiming.claim(redis_client, ["q"], "w", 10, now=NOW, executions=executions)
    duty, steps = Reclamation(redis_client), list[int]()
    while not steps or steps[-1]:
        steps.append(duty.tick(NOW + 11).get("reclaimed", 0))
    assert steps == [reclaim.BATCH] * (len(ids) // reclaim.BATCH) + [0]
    assert sorted(ready(redis_client)) == sorted(ids)


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


def test_a_hundred_queues_cost_as_many_round_trips_as_one(redis_client: redis.Redis) -> None:
    def reads_of_a_tick() -> int:
        duty = Registries(redis_client)
        duty.tick(NOW)
        redis_client.config_resetstat()
        duty.tick(NOW)
        return int(redis_client.info("stats")["total_reads_processed"])

    redis_client.zadd(keys.failed("q"), {add(redis_client, "a"): NOW})
    few = reads_of_a_tick()
    redis_client.sadd(keys.QUEUES, *(keys.queue(f"q{number}") for number in range(100)))
    assert reads_of_a_tick() <= few + GHOST_STEPS


def test_many_letters_of_stock_workers_are_adopted_in_bounded_steps(redis_client: redis.Redis) -> None:
    ids = [f"j{number}" for number in range(1_000)]
    with redis_client.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hset(keys.job(job_id), mapping={"origin": "q", "status": "failed"})
        pipeline.zadd(keys.failed("q"), dict.fromkeys(ids, NOW))
        pipeline.sadd(keys.QUEUES, keys.queue("q"))
        pipeline.execute()
    duty, steps = Registries(redis_client), list[int]()
    while redis_client.zcard(keys.DEAD) < len(ids):
        steps.append(duty.tick(NOW)["adopted"])
        assert 0 < steps[-1] <= STEPS
        assert duty.interval_s < 1 or redis_client.zcard(keys.DEAD) == len(ids)
    assert sum(steps) == len(ids)


def test_ids_without_a_job_leave_rqs_registries_and_those_with_one_stay(redis_client: redis.Redis) -> None:
    ids = [f"gone{number}" for number in range(3 * COUNT)]
    registries = (keys.finished("q"), keys.canceled("q"), keys.deferred("q"))
    redis_client.zadd(keys.scheduled("q"), {"due-later": NOW + 90})
    for key in registries:
        redis_client.zadd(key, {**dict.fromkeys(ids, NOW - 61), add(redis_client, "kept"): NOW - 61, "just-now": NOW})
    duty, removed = Registries(redis_client), 0
    for _ in range(20):
        removed += duty.tick(NOW)["ghosts"]
    assert removed == len(registries) * len(ids)
    assert [redis_client.zrange(key, 0, -1) for key in registries] == [[b"kept", b"just-now"]] * len(registries)
    assert redis_client.zcard(keys.scheduled("q")) == 1
