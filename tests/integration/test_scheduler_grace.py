"""The scheduler takes no job from a living worker: not by a wrong clock of its own, not after Redis was away."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from job_watch import hold, status, wait_for_file, wait_until
from processes import Process, Processes, wait_for
from servers import Server as RedisServer

from jobs import connections, keys
from jobs.queue import calling, claiming, task
from scheduler.leader import Leader
from scheduler.loop import Loop
from scheduler.reclaim import Reclamation
from scheduler.server import Server

LIMIT_S = 20.0
LEASE_S = 2.0
AWAY_S = 1.5 * LEASE_S


@task.task(name="test.haul", queue="q", result_ttl_s=60)
def haul() -> None:
    pass


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def claim(client: redis.Redis, job_id: str, lease_s: float) -> None:
    """As a worker does whose clock is right."""
    seconds, micros = client.time()
    now = seconds + micros / 1e6
    calling.enqueue(client, haul.spec(job_id=job_id, now=now), now=now)
    claiming.claim(client, ["q"], "w", lease_s, now=now, executions=["e"])


def scheduling(client: redis.Redis, *, lease_s: float = LEASE_S) -> Loop:
    """A scheduler's loop that only reclaims."""
    server = Server(client, lease_s)
    return Loop(client, server, "us", [Reclamation(client, server.renewed)])


def long_up(client: redis.Redis) -> None:
    wait_for(lambda: client.info("server")["uptime_in_seconds"] >= LEASE_S, LIMIT_S, "the server is no new one")


# --- clocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("off_s", [60.0, -60.0])
def test_a_wrong_clock_takes_no_lease_that_lasts_and_keeps_none_that_ran_out(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    long_up(redis_client)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + off_s)
    loop = scheduling(redis_client)
    claim(redis_client, "lives", 20)
    claim(redis_client, "dead", 0)
    wait_for(lambda: loop.step() >= 0 and status(redis_client, "dead") == "queued", LIMIT_S, "what ran out is reclaimed")
    assert status(redis_client, "lives") == "started"


def test_the_time_is_the_servers_and_goes_on_between_two_answers(redis_client: redis.Redis) -> None:
    clock = Clock()
    server = Server(redis_client, LEASE_S, monotonic=clock)
    server.ask()
    seconds, _micros = redis_client.time()
    first = server.now()
    assert abs(first - seconds) < 2
    clock.now += 5
    assert server.now() == pytest.approx(first + 5)


# --- outages, without waiting ----------------------------------------------------------------------


def test_a_gap_between_two_answers_lets_workers_renew_for_one_lease(redis_client: redis.Redis) -> None:
    long_up(redis_client)
    clock = Clock()
    server = Server(redis_client, LEASE_S, monotonic=clock)
    assert not server.renewed(), "nothing is known yet"
    server.ask()
    assert server.renewed()
    clock.now += LEASE_S / 2 + 0.01
    assert not server.renewed(), "it may be away"
    server.ask()
    told = []
    for _ in range(5):
        told.append(server.renewed())
        clock.now += LEASE_S / 4
        server.ask()
    assert told == [False, False, False, False, True]
    clock.now += LEASE_S / 2
    server.ask()
    assert server.renewed(), "too short for a lease to run out"


def test_a_clock_of_the_server_that_leaps_ahead_lets_workers_renew(redis_client: redis.Redis) -> None:
    long_up(redis_client)
    server = Server(redis_client, 0.2, monotonic=Clock())  # stands still, as in a machine that sleeps
    server.ask()
    assert server.renewed()
    asleep_until = time.time() + 0.11
    wait_for(lambda: redis_client.time() > (asleep_until, 0), LIMIT_S, "the server's clock goes on")
    server.ask()
    assert not server.renewed()


def test_an_error_before_the_first_answer_is_an_outage(own_server: RedisServer) -> None:
    client = connections.connect(own_server.url)
    long_up(client)
    clock = Clock()
    server = Server(client, LEASE_S, monotonic=clock)
    os.kill(client.info("server")["process_id"], signal.SIGSTOP)
    client.connection_pool.disconnect()
    impatient = redis.Redis.from_url(own_server.url, socket_timeout=0.05, retry=None)
    server = Server(impatient, LEASE_S, monotonic=clock)
    with pytest.raises(redis.exceptions.TimeoutError):
        server.ask()
    own_server.kill()
    own_server.start()
    server.ask()
    assert not server.renewed()


def test_a_server_that_has_just_started_lets_workers_renew(own_server: RedisServer) -> None:
    client = connections.connect(own_server.url)
    clock = Clock()
    server = Server(client, 60, monotonic=clock)
    server.ask()
    assert not server.renewed()
    clock.now += 29
    server.ask()
    assert not server.renewed()


def test_a_new_leader_reclaims_at_once(redis_client: redis.Redis) -> None:
    long_up(redis_client)
    leader, follower = Leader(redis_client), scheduling(redis_client)
    leader.campaign()
    follower.step()
    claim(redis_client, "dead", 0)
    leader.resign()
    at = time.monotonic()
    wait_for(lambda: follower.step() >= 0 and status(redis_client, "dead") == "queued", LIMIT_S, "it is reclaimed")
    assert time.monotonic() - at < LEASE_S


# --- outages under a real worker, which comes back later than the scheduler ------------------------


@pytest.fixture
def own_client(own_server: RedisServer, process_environ: dict[str, str]) -> redis.Redis:
    """A client of a server that may be killed; processes of this test work on that server."""
    process_environ.update(REDIS_URL=own_server.url, TURNSTILE_LEASE_S=str(LEASE_S))
    return connections.connect(own_server.url)


@pytest.fixture
def worker(own_client: redis.Redis, processes: Processes, tmp_path: Path) -> Process:
    """Its job, `held`, runs."""
    started = processes.worker("default")
    hold(own_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    return started


def outlast_the_leases() -> None:
    over_at = time.monotonic() + AWAY_S
    wait_for(lambda: time.monotonic() > over_at, LIMIT_S, "every lease has run out")


def check_one_end(client: redis.Redis, worker: Process, folder: Path, step: Callable[[], object]) -> None:
    """The worker wakes up and keeps its job past the grace; what is nobody's is reclaimed again; the job ends once."""
    assert status(client, "held") == "started"
    os.killpg(worker.pid, signal.SIGCONT)
    claim(client, "dead", 0)
    wait_for(lambda: (step(), status(client, "dead"))[1] == "queued", LIMIT_S, "the grace ends")
    assert status(client, "held") == "started"
    (folder / "go").touch()
    wait_until(client, "held", "finished")
    assert client.hmget(keys.job("held"), "crashes", "failures") == [None, None]
    assert client.xlen(keys.results("held")) == 1
    assert client.hget(keys.totals("default"), "reclaimed") is None
    assert (len(list(folder.glob("done-*"))), worker.runs) == (1, True)


def test_a_redis_that_was_killed_for_longer_than_a_lease_costs_no_running_job(
    own_client: redis.Redis, own_server: RedisServer, processes: Processes, worker: Process, tmp_path: Path
) -> None:
    scheduler = processes.start("python", "-m", "scheduler")
    scheduler.prints("leads now")
    os.killpg(worker.pid, signal.SIGSTOP)
    own_server.kill()
    outlast_the_leases()
    own_server.start()
    scheduler.prints("Redis is back")  # said at the end of the step in which a reckless one would have reclaimed
    check_one_end(own_client, worker, tmp_path, lambda: scheduler.runs)


def test_a_scheduler_that_starts_with_redis_takes_no_running_job(
    own_client: redis.Redis, own_server: RedisServer, worker: Process, tmp_path: Path
) -> None:
    os.killpg(worker.pid, signal.SIGSTOP)
    own_server.kill()
    outlast_the_leases()
    own_server.start()
    loop = scheduling(own_client)
    loop.step()
    check_one_end(own_client, worker, tmp_path, loop.step)


def test_a_redis_that_hung_for_longer_than_a_lease_costs_no_running_job(
    own_client: redis.Redis, worker: Process, tmp_path: Path
) -> None:
    long_up(own_client)
    loop = scheduling(own_client)
    loop.step()
    os.killpg(worker.pid, signal.SIGSTOP)
    pid = own_client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    outlast_the_leases()
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: loop.step() < LEASE_S / 2 and own_client.exists(keys.SCHEDULER_LOCK), LIMIT_S, "the loop has looked")
    check_one_end(own_client, worker, tmp_path, loop.step)
