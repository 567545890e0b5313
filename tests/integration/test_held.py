"""What a worker holds when Redis does not answer: no claim is forgotten, no end is written twice, and none is lost."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import sample_tasks
from cutting import Cutting
from hands import Hands
from processes import wait_for
from servers import Server
from snapshots import snapshot

from jobs import connections, keys
from jobs.queue import ending, overview
from jobs.queue.acks import MAX_ALONE
from jobs.queue.attempts import failed_attempt
from jobs.queue.calling import enqueue
from jobs.queue.claiming import CLAIM
from jobs.queue.clock import Clock
from jobs.queue.ending import Claim
from jobs.queue.held import Held
from jobs.queue.job import rq_time
from jobs.queue.outcome import Outcome
from jobs.queue.script import load

LEASE_S = 30.0
QUEUES = ["default"]


@pytest.fixture
def front(tmp_path_factory: pytest.TempPathFactory, redis_client: redis.Redis, redis_url: str) -> Iterator[Cutting]:
    load(redis_client, CLAIM, ending.FINISH, ending.RELEASE)
    front = Cutting(tmp_path_factory.mktemp("f"), redis_url)
    yield front
    front.close()


def holding(url: str) -> Held:
    return Held(connections.tuned(redis.Redis.from_url(url), retries=0, timeout_s=1.0), "w1", LEASE_S, Clock())


def fill(client: redis.Redis, n: int, queue: str = "default") -> list[str]:
    ids = [f"j{number:03}" for number in range(n)]
    for job_id in ids:
        enqueue(client, sample_tasks.add.spec(1, 2, job_id=job_id, queue=queue), now=time.time())
    return ids


def claimed(held: Held, n: int) -> list[Claim]:
    held.exchange(QUEUES, n)
    return held.found().jobs


def finished(result: bytes = b"3") -> Outcome:
    return Outcome("finished", "sample.add", time.time(), result, 500)


def dead(claim: Claim) -> Outcome:
    failed = failed_attempt(claim.attempt, claim.started_at, time.time(), "w1", ValueError("no"))
    return Outcome("dead", "sample.add", time.time(), failed=failed)


def statuses(client: redis.Redis, ids: list[str]) -> list[str]:
    return [(client.hget(keys.job(job_id), "status") or b"gone").decode() for job_id in ids]


def done(client: redis.Redis) -> int:
    return int(client.hget(keys.totals("default"), "finished") or 0)


# --- replies that are lost ---------------------------------------------------------------------


def test_what_a_claim_took_whose_reply_was_lost_goes_back_in_its_order_before_the_next_claim(
    redis_client: redis.Redis, front: Cutting
) -> None:
    ids = fill(redis_client, 3)
    held = holding(front.url)
    held.exchange(QUEUES, 0)
    front.cut(CLAIM.sha.encode())
    with pytest.raises(redis.exceptions.ConnectionError):
        claimed(held, 3)
    assert (statuses(redis_client, ids), len(held), held.in_doubt) == (["started"] * 3, 0, True)
    assert [claim.id for claim in claimed(held, 2)] == ids[:2]
    assert snapshot(redis_client)["rq:queue:default"] == ids[2:]
    assert snapshot(redis_client)["rq:wip:default"].keys() == {claim.member for claim in held._claims.values()}


def test_a_claim_that_reaches_redis_only_after_the_first_look_is_found_by_the_second(
    redis_client: redis.Redis, front: Cutting
) -> None:
    ids = fill(redis_client, 1)
    held = holding(front.url)
    front.cut(CLAIM.sha.encode())
    redis_client.script_flush()
    with pytest.raises(redis.exceptions.ConnectionError):
        claimed(held, 1)  # the server did not know the script: nothing was claimed
    held.exchange(QUEUES, 0)
    late = f"{held._prefix}0"  # what lay in the socket of a server that stood still
    Hands(redis_client, "w1").must_claim("default", execution=late)
    assert statuses(redis_client, ids) == ["started"]
    wait_for(lambda: held.in_doubt, 5.0, "it looks again")
    held.exchange(QUEUES, 0)
    assert (statuses(redis_client, ids), held.in_doubt) == (["queued"], False)


@pytest.mark.parametrize("after", [0, 2_000])
def test_ends_whose_reply_was_lost_in_the_middle_of_an_exchange_are_written_once(
    redis_client: redis.Redis, front: Cutting, after: int
) -> None:
    ids = fill(redis_client, 40)
    held = holding(front.url)
    for claim in claimed(held, 20):
        held.end(claim, finished())
    front.cut(ending.FINISH.sha.encode(), after)
    with pytest.raises(redis.exceptions.ConnectionError):
        held.exchange(QUEUES, 20)
    assert (held.unwritten, held.unended, done(redis_client)) == (20, 0, 20)
    held.exchange(QUEUES, 0)
    assert (len(held), done(redis_client)) == (0, 20)
    assert statuses(redis_client, ids) == ["finished"] * 20 + ["queued"] * 20
    assert snapshot(redis_client)["rq:queue:default"] == ids[20:]
    assert not redis_client.exists(keys.wip("default"))


def test_a_dead_letter_whose_reply_was_lost_is_buried_once(redis_client: redis.Redis, front: Cutting) -> None:
    [job_id] = fill(redis_client, 1)
    held = holding(front.url)
    [claim] = claimed(held, 1)
    held.end(claim, dead(claim))
    front.cut(b"EXEC")
    with pytest.raises(redis.exceptions.ConnectionError):
        held.exchange(QUEUES, 0)
    held.exchange(QUEUES, 0)
    assert (len(held), statuses(redis_client, [job_id])) == (0, ["failed"])
    assert redis_client.hget(keys.totals("default"), "dead") == b"1"


def test_a_claim_that_is_under_way_is_not_taken_for_a_lost_one(redis_client: redis.Redis, redis_url: str) -> None:
    [job_id] = fill(redis_client, 1)
    redis_client.hset(keys.worker("w1"), "last_heartbeat", rq_time(time.time()))
    held = holding(redis_url)
    held.doubt()
    script, places, args = held.asking(QUEUES, 1)
    reply = script(redis_client, places, args)
    held.exchange(QUEUES, 0)
    assert statuses(redis_client, [job_id]) == ["started"]
    held.claimed(reply)
    assert [claim.id for claim in held.found().jobs] == [job_id]


# --- handing back --------------------------------------------------------------------------------


def test_jobs_go_back_to_the_front_in_the_order_in_which_they_were_claimed(redis_client: redis.Redis, redis_url: str) -> None:
    ids = fill(redis_client, 30)
    held = holding(redis_url)
    claims = claimed(held, 20)
    held.hand_back(claims[12:])
    for claim in reversed(claims[:12]):  # as they ended
        held.end(claim, Outcome("handed back", "sample.add", time.time()))
    assert held.returning
    held.exchange(QUEUES, 0)
    assert (snapshot(redis_client)["rq:queue:default"], len(held), held.returning) == (ids, 0, False)
    assert not redis_client.hexists(keys.job(ids[0]), "failures")


def test_a_hand_back_is_repeated_after_a_lost_reply_and_moves_each_job_once(redis_client: redis.Redis, front: Cutting) -> None:
    ids = fill(redis_client, 5)
    held = holding(front.url)
    held.hand_back(claimed(held, 5))
    front.cut(ending.RELEASE.sha.encode())
    with pytest.raises(redis.exceptions.ConnectionError):
        held.exchange(QUEUES, 0)
    held.exchange(QUEUES, 0)
    assert (snapshot(redis_client)["rq:queue:default"], len(held)) == (ids, 0)


# --- refusals ------------------------------------------------------------------------------------


def test_one_poisoned_job_in_a_batch_of_a_hundred_costs_the_others_nothing(redis_client: redis.Redis, redis_url: str) -> None:
    ids = fill(redis_client, 100)
    held = holding(redis_url)
    for claim in claimed(held, 100):
        held.end(claim, finished())
    redis_client.delete(keys.job("j050"))
    redis_client.set(keys.job("j050"), "no hash")
    held.exchange(QUEUES, 0)
    while held.unwritten:  # one by one
        held.exchange(QUEUES, 0)
    others = [job_id for job_id in ids if job_id != "j050"]
    assert statuses(redis_client, others) == ["finished"] * 99
    assert (done(redis_client), len(held)) == (99, 0)
    assert [member.split(":")[0] for member in snapshot(redis_client)["rq:wip:default"]] == ["j050"]


def test_a_claim_that_redis_refuses_holds_up_no_end(redis_client: redis.Redis, redis_url: str) -> None:
    ids = fill(redis_client, 2)
    held = holding(redis_url)
    [claim] = claimed(held, 1)
    held.end(claim, finished())
    redis_client.set(keys.queue("broken"), "no list")
    with pytest.raises(redis.exceptions.ResponseError):
        held.exchange(["default", "broken"], 2)
    assert (len(held), statuses(redis_client, ids[:1])) == (0, ["finished"])
    assert held.in_doubt  # it has taken what it found before
    held.exchange(QUEUES, 0)
    assert snapshot(redis_client)["rq:queue:default"] == ids[1:]


def test_a_server_that_has_forgotten_the_scripts_is_told_them(redis_client: redis.Redis, redis_url: str) -> None:
    ids = fill(redis_client, 3)
    held = holding(redis_url)
    first, second = claimed(held, 2)
    held.end(first, finished())
    held.hand_back([second])
    redis_client.script_flush()
    assert [claim.id for claim in claimed(held, 1)] == [ids[1]]
    assert statuses(redis_client, ids) == ["finished", "started", "queued"]


@pytest.fixture
def own_client(own_server: Server) -> redis.Redis:
    return connections.connect(own_server.url)


def test_while_memory_is_full_what_finished_is_written_whatever_else_must_wait(
    own_client: redis.Redis, own_server: Server
) -> None:
    ids = fill(own_client, MAX_ALONE + 5)
    held = holding(own_server.url)
    *doomed, last = claimed(held, len(ids))
    for claim in doomed:
        held.end(claim, dead(claim))
    held.end(last, finished())
    own_client.config_set("maxmemory", 1)
    with contextlib.suppress(
        redis.exceptions.ResponseError
    ):  # some servers take a transaction that begins with what frees memory
        held.exchange(QUEUES, 0)
    assert statuses(own_client, ids[-1:]) == ["finished"]
    own_client.config_set("maxmemory", 0)
    while held.unwritten:
        held.exchange(QUEUES, 0)
    assert statuses(own_client, ids) == ["failed"] * len(doomed) + ["finished"]


def test_a_server_that_has_become_a_replica_takes_everything_once_it_is_none(own_client: redis.Redis, own_server: Server) -> None:
    ids = fill(own_client, 4)
    held = holding(own_server.url)
    first, second, third = claimed(held, 3)
    held.end(first, finished())
    held.end(second, dead(second))
    held.hand_back([third])
    own_client.replicaof("127.0.0.1", "9")
    for _ in range(2):
        with pytest.raises(redis.exceptions.ReadOnlyError):
            held.exchange(QUEUES, 0)
    assert held.unwritten == 3
    own_client.replicaof("NO", "ONE")
    held.exchange(QUEUES, 0)
    assert (statuses(own_client, ids), len(held)) == (["finished", "failed", "queued", "queued"], 0)
    assert snapshot(own_client)["rq:queue:default"] == ids[2:]


# --- leases --------------------------------------------------------------------------------------


def test_a_lost_lease_is_said_once_and_renewed_no_more(
    redis_client: redis.Redis, redis_url: str, hands: Hands, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(redis_client, 2)
    held = holding(redis_url)
    ended, running = claimed(held, 2)
    held.end(ended, finished())
    for _ in range(2):
        held.lose({ended.member, running.member, "foreign:1"})
    assert capfd.readouterr().out.count("lease lost while the job runs") == 1
    assert held.leases() == {}
    assert hands.reclaim("default", now=time.time() + 2 * LEASE_S)[0] == [ended.id, running.id]
    held.end(running, finished())
    before = {key: value for key, value in snapshot(redis_client).items() if "stats" not in key}
    held.exchange(QUEUES, 0)
    assert {key: value for key, value in snapshot(redis_client).items() if "stats" not in key} == before
    assert len(held) == 0


def test_a_job_whose_id_is_no_text_ends_no_worker(redis_client: redis.Redis, redis_url: str) -> None:
    raw: Any = b"\xff\xfe"
    redis_client.hset(b"rq:job:" + raw, mapping={"status": "queued", "data": "[]"})
    redis_client.rpush(keys.queue("default"), raw)
    held = holding(redis_url)
    [claim] = claimed(held, 1)
    held.end(claim, finished())
    held.exchange(QUEUES, 0)
    assert len(held) == 0
    overview.queue_names(redis_client)


def test_the_end_of_a_job_is_told_by_the_servers_clock(redis_client: redis.Redis, redis_url: str) -> None:
    fill(redis_client, 2)
    clock = Clock(lambda: time.time() - 3_600)
    clock.learn(time.time(), clock.local(), clock.local())
    held = Held(connections.tuned(redis.Redis.from_url(redis_url)), "w1", LEASE_S, clock)
    retried, crashed = claimed(held, 2)
    failed = failed_attempt(1, retried.started_at, clock.local(), "w1", ValueError("no"))
    held.end(retried, Outcome("retry", "sample.add", clock.local(), failed=failed, delay_s=100.0))
    held.end(crashed, Outcome("crashed", "sample.add", clock.local()))
    held.exchange(QUEUES, 0)
    assert redis_client.zscore(keys.scheduled("default"), retried.id) == pytest.approx(time.time() + 100, abs=5)
    assert redis_client.zscore(keys.wip("default"), crashed.member) == pytest.approx(time.time(), abs=5)


@pytest.mark.parametrize("beat_s_ago", [None, 5.0])
def test_a_claim_that_lay_ready_for_a_worker_that_stands_still_takes_nothing_and_rings_for_another(
    redis_client: redis.Redis, redis_url: str, beat_s_ago: float | None
) -> None:
    [job_id] = fill(redis_client, 1)
    redis_client.delete(keys.bell("default"))
    if beat_s_ago is not None:
        redis_client.hset(keys.worker("w1"), "last_heartbeat", rq_time(time.time() - beat_s_ago))
    held = holding(redis_url)
    script, places, args = held.asking(QUEUES, 1)
    held.claimed(script(redis_client, places, args))
    assert (held.found().jobs, statuses(redis_client, [job_id])) == ([], ["queued"])
    assert redis_client.llen(keys.bell("default")) >= 1
