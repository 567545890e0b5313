"""How a worker stops, whatever its jobs and Redis do: with exit code 0, in time, and with every job back in its queue."""

import os
import signal
import time
from pathlib import Path

import pytest
import redis
import stubborn_tasks
from job_watch import LIMIT_S, hold, result, send, wait_for_file
from processes import Process, Processes, wait_for
from sample_tasks import add
from servers import Server
from snapshots import snapshot

from jobs import connections, keys
from jobs.queue import overview
from jobs.queue.job import JobSpec
from jobs.queue.remote import send_restart

IN_TIME_S = 5.0
"""How long after its drain a worker may take."""


@pytest.fixture(params=["IoWorker", "CpuWorker"], autouse=True)
def worker_class(request: pytest.FixtureRequest, processes: Processes) -> str:
    """Every test runs with both."""
    processes.worker_class = request.param
    return processes.worker_class


@pytest.fixture
def own_client(own_server: Server, process_environ: dict[str, str]) -> redis.Redis:
    """A client of a server that may be killed; processes of this test work on that server."""
    process_environ["REDIS_URL"] = own_server.url
    return connections.connect(own_server.url)


def ends_in_time(worker: Process, drain_s: float) -> None:
    began = time.monotonic()
    assert worker.ended(LIMIT_S) == 0
    assert time.monotonic() - began < drain_s + IN_TIME_S


def unburned(client: redis.Redis, job_id: str) -> None:
    job = snapshot(client)[f"rq:job:{job_id}"]
    assert (job["status"], job.get("failures"), job.get("crashes"), job.get("attempts")) == ("queued", None, None, None)


# --- jobs that do not obey -----------------------------------------------------------------------


@pytest.mark.parametrize("task", ["block", "block_loop", "await_again", "block_beside"])
def test_jobs_that_no_interruption_ends_go_back_and_their_worker_ends_in_time(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path, task: str
) -> None:
    worker = processes.worker("default", config="stubborn_config", TURNSTILE_DRAIN_S="0.3")
    spec: JobSpec = getattr(stubborn_tasks, task).spec(str(tmp_path), job_id="stubborn")
    send(redis_client, spec)
    wait_for_file(tmp_path / "started-1")
    waiting = send(redis_client, add.spec(1, 2))
    worker.send(signal.SIGTERM)
    ends_in_time(worker, 0.3)
    unburned(redis_client, "stubborn")
    assert snapshot(redis_client)["rq:queue:default"] == ["stubborn", waiting]
    assert not redis_client.exists(keys.wip("default"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_process_group_lets_jobs_finish(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path, number: signal.Signals
) -> None:
    worker = processes.worker("default")
    job_id = hold(redis_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    for _ in range(2):
        os.killpg(worker.pid, number)
        time.sleep(0.05)  # signals of one kind that come together are one signal
    (tmp_path / "go").touch()
    assert worker.ended(LIMIT_S) == 0
    assert result(redis_client, job_id) == 1


# --- Redis away ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed", "stands still"])
def test_without_redis_a_worker_with_a_job_ends_in_time(
    own_client: redis.Redis, own_server: Server, processes: Processes, tmp_path: Path, how: str
) -> None:
    worker = processes.worker("default", TURNSTILE_DRAIN_S="1")
    hold(own_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    if how == "killed":
        own_server.kill()
    else:
        own_client.execute_command("CLIENT", "PAUSE", 60_000, "ALL")
    worker.send(signal.SIGTERM)
    ends_in_time(worker, 1.0)


def test_a_worker_that_waits_for_redis_at_its_start_can_be_stopped(
    own_client: redis.Redis, own_server: Server, processes: Processes
) -> None:
    own_server.kill()
    worker = processes.worker("default")
    worker.prints("waiting for Redis")
    worker.send(signal.SIGTERM)
    assert worker.ended(IN_TIME_S) == 0


# --- at the start --------------------------------------------------------------------------------


def catches_sigterm(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in text.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("later_s", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
def test_a_signal_while_the_worker_starts_ends_it_well(redis_client: redis.Redis, processes: Processes, later_s: float) -> None:
    job_id = send(redis_client, add.spec(1, 2))
    worker = processes.worker("default")
    wait_for(lambda: catches_sigterm(worker.pid), LIMIT_S, "signals have a meaning")
    time.sleep(later_s)  # wherever it is by then
    worker.send(signal.SIGTERM)
    assert worker.ended(LIMIT_S) == 0
    job = redis_client.hgetall(keys.job(job_id))
    assert job[b"status"] in (b"queued", b"finished") and b"crashes" not in job
    assert not redis_client.exists(keys.wip("default"))


# --- restart -------------------------------------------------------------------------------------


def name(client: redis.Redis) -> str:
    return next((worker.name for worker in overview.workers(client)), "")


def test_the_restart_command_begins_the_same_process_anew_once_its_jobs_have_ended(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.worker("default")
    job_id = hold(redis_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    first = name(redis_client)
    send_restart(redis_client, first)
    worker.prints("told by an operator")
    (tmp_path / "go").touch()
    assert result(redis_client, job_id) == 1
    wait_for(lambda: name(redis_client) not in ("", first), LIMIT_S, "it has a new name")
    [seen] = overview.workers(redis_client)
    assert (seen.pid, worker.runs) == (worker.pid, True)
    assert result(redis_client, send(redis_client, add.spec(1, 2))) == 3
    worker.send(signal.SIGTERM)
    assert worker.ended(LIMIT_S) == 0


def test_a_worker_that_is_told_to_restart_and_to_end_ends(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.worker("default")
    hold(redis_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    send_restart(redis_client, name(redis_client))
    worker.prints("told by an operator")
    worker.send(signal.SIGTERM)
    (tmp_path / "go").touch()
    assert worker.ended(LIMIT_S) == 0
