"""The worker in trouble: killed, stalled, without Redis, fed with poison: it loses nothing, ends nothing twice, and stays."""

import os
import pickle
import signal
import time
from pathlib import Path

import pytest
import redis
import sample_tasks
from hands import Hands
from job_watch import LIMIT_S, hold, status, wait_for_file, wait_until
from processes import Processes, wait_for
from servers import Server
from snapshots import snapshot

from jobs import connections, keys
from jobs.queue import dead_letters, ending
from jobs.queue.calling import enqueue


@pytest.fixture(params=["IoWorker", "CpuWorker"], autouse=True)
def worker_class(request: pytest.FixtureRequest, processes: Processes) -> str:
    """Every test runs with both."""
    processes.worker_class = request.param
    return processes.worker_class


# --- kills -----------------------------------------------------------------------------------


def test_a_job_whose_worker_is_killed_stays_claimed_and_is_brought_back_with_one_crash(
    redis_client: redis.Redis, hands: Hands, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.worker("default")
    hold(redis_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    worker.kill()
    after = snapshot(redis_client)
    [member] = after["rq:wip:default"]
    assert member.startswith("held:")
    assert (after["rq:job:held"]["status"], "rq:queue:default" in after) == ("started", False)
    assert hands.reclaim("default") == (["held"], [], 0)
    job = snapshot(redis_client)["rq:job:held"]
    assert (job["status"], job["crashes"], job.get("failures"), job.get("attempts")) == ("queued", "1", None, None)
    (tmp_path / "go").touch()
    processes.worker("default")
    wait_until(redis_client, "held", "finished")
    assert "crashes" not in snapshot(redis_client)["rq:job:held"]


def leases_end(client: redis.Redis) -> float:
    [(_member, end)] = client.zrange(keys.wip("default"), 0, -1, withscores=True)
    return float(end)


def test_a_job_that_kills_its_worker_three_times_is_buried_with_the_reason(
    redis_client: redis.Redis, hands: Hands, processes: Processes, worker_class: str
) -> None:
    enqueue(redis_client, sample_tasks.die.spec(job_id="poison"), now=time.time())
    for crash in (1, 2, 3):
        worker = processes.worker("default")
        if worker_class == "CpuWorker":  # only a child dies, and its lease ends at once
            worker.prints("a child of the worker has died")
            wait_for(lambda: leases_end(redis_client) < time.time(), LIMIT_S, "the lease is ended")
            worker.kill()
        else:
            assert worker.ended(LIMIT_S) == -signal.SIGKILL
        reclaimed, poison, _ghosts = hands.reclaim("default")
        assert (reclaimed, len(poison)) == ((["poison"], 0) if crash < 3 else ([], 1))
    assert ending.bury_crashed(redis_client, "default", poison[0], time.time()) is ending.Written.NOW
    letter = dead_letters.get(redis_client, "poison")
    assert (letter.error_type, letter.attempts[-1].attempt) == ("Quarantined", 1)
    assert "3 times in a row" in letter.error
    assert not redis_client.exists(keys.wip("default"), keys.queue("default"))


# --- stalls ----------------------------------------------------------------------------------


def test_a_running_job_keeps_its_lease_longer_than_the_lease_lasts(
    redis_client: redis.Redis, hands: Hands, processes: Processes, tmp_path: Path
) -> None:
    processes.worker("default", TURNSTILE_LEASE_S="2")
    hold(redis_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    [(member, first)] = redis_client.zrange(keys.wip("default"), 0, -1, withscores=True)
    wait_for(lambda: (redis_client.zscore(keys.wip("default"), member) or 0) > first + 1.5, LIMIT_S, "the lease is renewed twice")
    assert hands.reclaim("default", now=time.time()) == ([], [], 0)
    (tmp_path / "go").touch()
    wait_until(redis_client, "held", "finished")


def test_a_worker_that_stood_still_past_its_lease_writes_nothing(
    redis_client: redis.Redis, hands: Hands, processes: Processes, tmp_path: Path
) -> None:
    stalled = processes.worker("default")
    hold(redis_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    stalled.send(signal.SIGSTOP)
    assert hands.reclaim("default")[0] == ["held"]
    (tmp_path / "go").touch()
    claim = hands.must_claim("default")
    hands.finish(claim, hands.run(claim))
    before = snapshot(redis_client)
    stalled.send(signal.SIGCONT)
    stalled.prints("lease lost, nothing written")
    after = snapshot(redis_client)
    for key in ("rq:job:held", "rq:results:held", "rq:finished:default", "rq:wip:default", "turnstile:totals:default"):
        assert before.get(key) == after.get(key), key
    assert len(after["rq:results:held"]) == 1
    assert stalled.runs


# --- Redis away ------------------------------------------------------------------------------


@pytest.fixture
def own_client(own_server: Server, process_environ: dict[str, str]) -> redis.Redis:
    """A client of a server that may be killed; processes of this test work on that server."""
    process_environ["REDIS_URL"] = own_server.url
    return connections.connect(own_server.url)


def test_redis_may_be_killed_and_restarted_while_a_job_runs(
    own_client: redis.Redis, own_server: Server, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.worker("default")
    hold(own_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    own_server.kill()
    worker.prints("waiting for Redis")
    (tmp_path / "go").touch()
    worker.prints("waiting for Redis")
    own_server.start()
    wait_until(own_client, "held", "finished")
    assert [int(path.name[-1]) for path in tmp_path.glob("done-*")] == [1]
    assert own_client.hget("rq:job:held", "crashes") is None
    enqueue(own_client, sample_tasks.add.spec(1, 2, job_id="next"), now=time.time())
    wait_until(own_client, "next", "finished")
    assert worker.runs


def test_an_idle_worker_outlives_an_outage_and_still_hears_commands(
    own_client: redis.Redis, own_server: Server, processes: Processes
) -> None:
    worker = processes.worker("default", options=("--name", "w1"))
    worker.prints("worker started")
    own_server.kill()
    worker.prints("waiting for Redis")
    own_server.start()
    enqueue(own_client, sample_tasks.add.spec(1, 2, job_id="next"), now=time.time())
    wait_until(own_client, "next", "finished")
    channel = "rq:pubsub:w1"
    wait_for(lambda: dict(own_client.pubsub_numsub(channel)).get(channel.encode()), LIMIT_S, "the worker listens again")
    own_client.publish(channel, '{"command": "shutdown"}')
    assert worker.ended(LIMIT_S) == 0


def test_a_worker_waits_for_a_redis_that_is_not_there_yet(
    own_client: redis.Redis, own_server: Server, processes: Processes
) -> None:
    enqueue(own_client, sample_tasks.add.spec(1, 2, job_id="next"), now=time.time())
    own_server.kill()
    worker = processes.worker("default")
    worker.prints("waiting for Redis")
    own_server.start()
    wait_until(own_client, "next", "finished")


def test_a_worker_that_must_go_while_redis_is_away_goes_and_leaves_its_job_to_be_reclaimed(
    own_client: redis.Redis, own_server: Server, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.worker("default", TURNSTILE_DRAIN_S="0")
    hold(own_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    own_server.kill()
    worker.send(signal.SIGTERM)
    assert worker.ended(LIMIT_S) == 0
    own_server.start()
    assert Hands(own_client).reclaim("default")[0] == ["held"]


def test_a_full_redis_is_worked_off_and_running_jobs_keep_their_leases(
    own_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.worker("default", TURNSTILE_LEASE_S="2")
    hold(own_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    enqueue(own_client, sample_tasks.add.spec(1, 2, job_id="next"), now=time.time())
    enqueue(own_client, sample_tasks.refuse.spec("no", job_id="dead"), now=time.time())
    own_client.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.ResponseError, match=r"OOM|memory"):
        enqueue(own_client, sample_tasks.add.spec(1, 2, job_id="too-much"), now=time.time())
    [(member, first)] = own_client.zrange(keys.wip("default"), 0, -1, withscores=True)
    wait_for(lambda: (own_client.zscore(keys.wip("default"), member) or 0) > first + 1.5, LIMIT_S, "the lease is renewed twice")
    (tmp_path / "go").touch()
    for job_id in ("held", "next"):
        wait_until(own_client, job_id, "finished")
    own_client.config_set("maxmemory", 0)
    wait_until(own_client, "dead", "failed")  # a transaction, which some servers refuse until there is room again
    assert own_client.hget("rq:job:held", "crashes") is None
    assert worker.runs


def test_a_job_whose_own_redis_is_away_fails_as_any_job_does(redis_client: redis.Redis, processes: Processes) -> None:
    enqueue(redis_client, sample_tasks.ask_elsewhere.spec(job_id="elsewhere"), now=time.time())
    processes.worker("default")
    wait_until(redis_client, "elsewhere", "failed")
    letter = dead_letters.get(redis_client, "elsewhere")
    assert [attempt.error_type for attempt in letter.attempts] == ["ConnectionError"] * 3


# --- poison ----------------------------------------------------------------------------------


def test_hooks_that_raise_leave_the_job_to_be_reclaimed_and_the_worker_alive(
    redis_client: redis.Redis, processes: Processes
) -> None:
    enqueue(redis_client, sample_tasks.fail_hooked.spec(job_id="hooked"), now=time.time())
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="next"), now=time.time())
    worker = processes.worker("default")
    wait_until(redis_client, "next", "finished")
    assert "ZeroDivisionError" in worker.output
    assert Hands(redis_client).reclaim("default")[0] == ["hooked"]


class Planted:
    """What unpickling would run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder / "executed"),)


def test_no_job_kills_its_worker_and_each_bad_one_is_a_dead_letter_that_says_why(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    def plant(job_id: str, **fields: str | bytes) -> None:
        enqueue(redis_client, sample_tasks.fail.spec("no", job_id=job_id), now=time.time())
        redis_client.hset(keys.job(job_id), mapping=fields)

    plant("unknown", data='["os.mkdir", null, ["%s/executed"], {}]' % tmp_path)  # noqa: UP031  braces are JSON's here
    plant("not-listed", data='["sample_tasks.not_a_task", null, ["%s"], {}]' % tmp_path)  # noqa: UP031
    plant("pickled", data=pickle.dumps(Planted(tmp_path)))
    plant("empty", data=b"")
    plant("wrong-arguments", data='["sample_tasks.refuse", null, [], {"nobody": 1}]', failures="2")
    plant("bad-failures", failures="many")
    plant("bad-limit", time_limit_s="long", failures="2")
    plant("bad-history", attempts="{", failures="2")
    plant("bad-text", task=b"\xff", failures="2")
    for kind in ("object", "surrogate", "loop"):
        enqueue(redis_client, sample_tasks.give.spec(kind, job_id=f"give-{kind}"), now=time.time())
    for kind in ("unspeakable", "surrogate", "exit", "nul"):
        enqueue(redis_client, sample_tasks.raise_odd.spec(kind, job_id=f"raise-{kind}"), now=time.time())
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="bad-ttl"), now=time.time())
    redis_client.hset("rq:job:bad-ttl", "result_ttl", "long")
    enqueue(redis_client, sample_tasks.add.spec(1, 2, job_id="good"), now=time.time())
    worker = processes.worker("default")
    ended = ("finished", "failed")
    wait_for(
        lambda: not worker.runs or all(status(redis_client, job_id) in ended for job_id in (*EXPECTED, "good")),
        LIMIT_S,
        "every job has ended",
    )
    assert worker.runs, f"it ended at {[m.decode() for m in redis_client.zrange(keys.wip('default'), 0, -1)]}"
    assert list(tmp_path.glob("executed")) == []
    letters, _ = dead_letters.page(redis_client, group=None, cursor=None, limit=100)
    said = {letter.id: f"{letter.error_type}: {letter.error}" for letter in letters}
    assert {name: said.get(name, status(redis_client, name))[: len(text)] for name, text in EXPECTED.items()} == EXPECTED
    assert set(said) == set(EXPECTED) - {"bad-ttl"}
    assert not redis_client.exists(keys.wip("default"))


EXPECTED = {
    "unknown": "UnknownTask: task 'os.mkdir' is not on the allow-list",
    "not-listed": "UnknownTask: task 'sample_tasks.not_a_task' is not on the allow-list",
    "pickled": "Permanent: the job's data is not a JSON call",
    "empty": "Permanent: the job's data is not a JSON call",
    "wrong-arguments": "TypeError: refuse() got an unexpected keyword argument 'nobody'",
    "bad-failures": "ValueError: no",
    "bad-limit": "ValueError: no",
    "bad-history": "ValueError: no",
    "bad-text": "ValueError: no",
    "give-object": "Permanent: the result is not JSON: Encoding objects of type object is unsupported",
    "give-surrogate": "Permanent: the result is not JSON: ",
    "give-loop": "Permanent: the result is not JSON: ",
    "raise-unspeakable": "Unspeakable: Unspeakable",
    "raise-surrogate": "ValueError: caf\\udce9",
    "raise-exit": "SystemExit: 3",
    "raise-nul": "ValueError: a\x00b",
    "bad-ttl": "finished",
}
