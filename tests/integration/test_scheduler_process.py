"""The scheduler process: who leads, how its loop takes failures, and what is left when it is killed or told to stop."""

import json
import os
import signal
import socket
import tempfile
import time

import pytest
import redis
import servers
from processes import Process, Processes, wait_for
from rq_scheduler import Scheduler

from jobs import connections, keys
from jobs.mall.periodic import table
from jobs.queue import calling, task
from jobs.queue.job import JobSpec
from jobs.queue.periodic import definition_id
from jobs.settings import Settings
from scheduler import leader
from scheduler.duty import Counts
from scheduler.leader import LEASE_S, Leader
from scheduler.loop import AWAY_WAIT_S, Loop
from scheduler.server import Server

LIMIT_S = 20.0
STOP_S = 2.5
"""One second, and more for a busy machine."""


@task.task(name="test.carry_on", queue="q", result_ttl_s=60)
def carry() -> None:
    pass


def ready(client: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in client.lrange(keys.queue("q"), 0, -1)]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Probe:
    """A duty that counts its ticks and fails as it is told."""

    interval_s = 1.0

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.ticks = error, 0

    def tick(self, now: float) -> Counts:
        self.ticks += 1
        if self.error is not None:
            raise self.error
        return {"ticks": 1}


def test_one_of_two_leads_until_it_resigns_or_its_lease_runs_out(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "LEASE_S", 0.2)
    clock = Clock()
    first, second = (Leader(redis_client, monotonic=clock) for _ in range(2))
    assert (first.campaign(), second.campaign(), first.campaign()) == (True, False, True)
    assert not Scheduler(connection=redis_client).acquire_lock(), "a stock rqscheduler stands aside"
    clock.now += 0.3
    assert not first.leads(), "the holder must not believe longer than Redis does"
    wait_for(second.campaign, LIMIT_S, "the lease runs out by itself")
    first.resign()
    assert (second.campaign(), first.campaign()) == (True, False), "nobody resigns for another"
    second.resign()
    wait_for(lambda: not redis_client.exists(keys.SCHEDULER_LOCK), LIMIT_S, "the lease is given back")


def test_a_follower_does_nothing_and_a_leader_whose_redis_is_away_stops_at_once(
    redis_server: servers.Server, redis_client: redis.Redis
) -> None:
    clock = Clock()
    probe, other = Probe(), Leader(redis_client)
    loop = Loop(redis_client, Server(redis_client, LEASE_S), "us", [probe], monotonic=clock)
    other.campaign()
    loop.step()
    assert probe.ticks == 0
    other.resign()
    clock.now += 1
    wait_for(lambda: not redis_client.exists(keys.SCHEDULER_LOCK), LIMIT_S, "the lease is given back")
    loop.step()
    assert probe.ticks == 1
    redis_server.kill()
    try:
        clock.now += 1
        assert [loop.step() for _ in range(3)] == [AWAY_WAIT_S] * 3
    finally:
        redis_server.start()
    assert probe.ticks == 1, "no duty is done without an answer to the heartbeat"
    clock.now += LEASE_S
    wait_for(lambda: loop.step() and probe.ticks > 1, LIMIT_S, "the loop goes on when Redis is back")


def test_a_duty_that_fails_does_not_keep_the_others_from_running(redis_client: redis.Redis) -> None:
    clock = Clock()
    bad, good = Probe(ValueError("no")), Probe()
    loop = Loop(redis_client, Server(redis_client, LEASE_S), "us", [bad, good], monotonic=clock)
    for _ in range(3):
        loop.step()
        clock.now += 1
    assert (bad.ticks, good.ticks) == (3, 3)
    assert redis_client.hmget(keys.SCHEDULER, "name", "ticks") == [b"us", b"2"]


# --- the process ---------------------------------------------------------------------------------


def leader_of(client: redis.Redis, *started: Process) -> Process:
    def leading() -> list[Process]:
        pid = client.get(keys.SCHEDULER_LOCK) and client.hget(keys.SCHEDULER, "pid")
        return [process for process in started if str(process.pid).encode() == pid]

    return wait_for(leading, LIMIT_S, "one leads")[0]


def carry_spec(job_id: str, now: float) -> JobSpec:
    return carry.spec(job_id=job_id, now=now)


CALL = json.dumps(["test.carry_on", None, [], {}])


def hold_many(client: redis.Redis, number: int, start: float, over_s: float) -> list[str]:
    ids = [f"j{index}" for index in range(number)]
    for first in range(0, number, 1000):
        with client.pipeline(transaction=False) as pipeline:
            for index in range(first, min(number, first + 1000)):
                pipeline.hset(keys.job(ids[index]), mapping={"status": "scheduled", "origin": "q", "data": CALL})
                pipeline.zadd(keys.SCHEDULED_JOBS, {ids[index]: start + over_s * index / number})
            pipeline.execute()
    return ids


def test_a_leader_killed_in_mid_run_loses_and_doubles_nothing(redis_client: redis.Redis, processes: Processes) -> None:
    one, two = (processes.start("python", "-m", "scheduler") for _ in range(2))
    leading = leader_of(redis_client, one, two)
    following = two if leading is one else one
    ids = hold_many(redis_client, 20_000, time.time() + 1, over_s=4)
    wait_for(lambda: redis_client.llen(keys.queue("q")) > 5000, LIMIT_S, "the leader promotes")
    leading.send(signal.SIGKILL)
    leading.ended(LIMIT_S)
    assert redis_client.llen(keys.queue("q")) < len(ids), "killed too late to prove anything"
    wait_for(lambda: redis_client.llen(keys.queue("q")) >= len(ids), LIMIT_S, "the follower takes over")
    assert sorted(ready(redis_client)) == sorted(ids)
    following.send(signal.SIGTERM)
    assert following.ended(LIMIT_S) == 0


def test_a_leader_frozen_past_its_lease_in_mid_run_does_no_harm_when_it_wakes(
    redis_client: redis.Redis, processes: Processes
) -> None:
    one, two = (processes.start("python", "-m", "scheduler") for _ in range(2))
    frozen = leader_of(redis_client, one, two)
    ids = hold_many(redis_client, 20_000, time.time() + 1, over_s=7)
    wait_for(lambda: redis_client.llen(keys.queue("q")) > 3000, LIMIT_S, "the leader promotes")
    frozen.send(signal.SIGSTOP)
    assert redis_client.llen(keys.queue("q")) < len(ids), "frozen too late to prove anything"
    wait_for(lambda: leader_of(redis_client, one, two) is not frozen, LIMIT_S, "the follower takes over")
    frozen.send(signal.SIGCONT)
    frozen.prints("leads no longer", LIMIT_S)
    wait_for(lambda: redis_client.llen(keys.queue("q")) >= len(ids), LIMIT_S, "all are promoted")
    assert sorted(ready(redis_client)) == sorted(ids)
    assert redis_client.hget(keys.SCHEDULER, "epoch") == b"2"


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]])
def test_a_stop_in_mid_run_gives_the_lease_back_and_keeps_every_periodic_job(
    redis_client: redis.Redis, processes: Processes, signals: list[signal.Signals]
) -> None:
    running = leader_of(redis_client, processes.start("python", "-m", "scheduler"))
    definitions = {definition_id(periodic.name) for periodic in table(Settings())}
    wait_for(lambda: redis_client.zcard(keys.SCHEDULED_JOBS) == len(table(Settings())), LIMIT_S, "the table is registered")
    start = time.time() + 0.2
    ids = hold_many(redis_client, 3000, start, over_s=1.5)
    redis_client.zadd(keys.SCHEDULED_JOBS, {name: start + 0.3 * (place + 1) for place, name in enumerate(sorted(definitions))})
    wait_for(lambda: redis_client.llen(keys.queue("q")) > 1000, LIMIT_S, "jobs are promoted")
    asked_at = time.monotonic()
    for number in signals:
        running.send(number)
    assert running.ended(LIMIT_S) == 0
    assert time.monotonic() - asked_at < STOP_S
    wait_for(lambda: not redis_client.exists(keys.SCHEDULER_LOCK), 0.5, "the lease is given back")
    left = {job_id.decode() for job_id in redis_client.zrange(keys.SCHEDULED_JOBS, 0, -1)}
    assert definitions <= left
    assert sorted([*ready(redis_client), *(left - definitions)]) == sorted(ids)


def test_a_redis_that_does_not_answer_does_not_delay_a_stop(processes: Processes) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as mute:
        mute.bind(f"{folder}/s")
        mute.listen()
        mute.settimeout(LIMIT_S)
        running = processes.start("python", "-m", "scheduler", REDIS_URL=f"unix://{folder}/s")
        asking, _ = mute.accept()
        with asking:
            assert asking.recv(1), "it has asked something and waits for the answer"
            asked_at = time.monotonic()
            running.send(signal.SIGTERM)
            assert running.ended(LIMIT_S) == 0
            assert time.monotonic() - asked_at < STOP_S


def test_a_redis_that_hangs_under_the_leader_does_not_delay_a_stop(redis_client: redis.Redis, processes: Processes) -> None:
    running = leader_of(redis_client, processes.start("python", "-m", "scheduler"))
    pid = redis_client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        asked_at = time.monotonic()
        running.send(signal.SIGTERM)
        assert running.ended(LIMIT_S) == 0
        assert time.monotonic() - asked_at < STOP_S
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_process_survives_an_outage_and_stops_in_the_middle_of_one(redis_client: redis.Redis, processes: Processes) -> None:
    server = servers.Server()
    try:
        waiting = processes.start("python", "-m", "scheduler", REDIS_URL=server.url)
        waiting.prints("waiting for Redis", LIMIT_S)
        server.start()
        client = connections.connect(server.url)
        leader_of(client, waiting)
        server.kill()
        server.start()
        due_at = time.time() + 0.3
        calling.enqueue(client, carry_spec("soon", due_at), now=due_at, due_at=due_at)
        wait_for(lambda: client.llen(keys.queue("q")), LIMIT_S, "jobs are promoted again")
        server.kill()
        waiting.send(signal.SIGTERM)
        assert waiting.ended(STOP_S) == 0
    finally:
        server.remove()


def test_a_short_delay_is_kept_to_a_fraction_of_a_second(redis_client: redis.Redis, processes: Processes) -> None:
    leader_of(redis_client, processes.start("python", "-m", "scheduler"))
    due_at = time.time() + 0.3
    calling.enqueue(redis_client, carry_spec("soon", due_at), now=due_at, due_at=due_at)
    wait_for(lambda: redis_client.llen(keys.queue("q")), LIMIT_S, "the job is promoted")
    assert 0 <= time.time() - due_at < 1.0


def test_an_environment_that_cannot_be_used_is_said_with_exit_code_2(processes: Processes) -> None:
    refused = processes.start("python", "-m", "scheduler", TURNSTILE_LEASE="x")
    assert refused.ended(LIMIT_S) == 2
    assert "TURNSTILE_LEASE='x': unknown setting; did you mean TURNSTILE_LEASE_S?" in refused.output
