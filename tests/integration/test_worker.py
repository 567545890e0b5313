"""The worker as a real process, started with the stock `rq worker` command: what it runs, how it stops, what tools see."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import redis
import sample_tasks
from job_watch import LIMIT_S, hold, result, send, status, wait_for_file, wait_until
from processes import Processes, wait_for
from rq import Queue
from rq.command import send_shutdown_command, send_stop_job_command
from rq.serializers import JSONSerializer
from snapshots import snapshot

from jobs import keys
from jobs.queue import dead_letters, overview


@pytest.fixture(params=["IoWorker", "CpuWorker"], autouse=True)
def worker_class(request: pytest.FixtureRequest, processes: Processes) -> str:
    """Every test runs with both."""
    processes.worker_class = request.param
    return processes.worker_class


# --- running ---------------------------------------------------------------------------------


def test_jobs_of_every_kind_run_and_their_results_can_be_read(redis_client: redis.Redis, processes: Processes) -> None:
    processes.worker("default")
    ids = [
        send(redis_client, sample_tasks.add.spec(1, 2)),
        send(redis_client, sample_tasks.add.spec(a=1, b=3)),
        send(redis_client, sample_tasks.add_later.spec(1, b=4)),
        send(redis_client, sample_tasks.give.spec("none")),
        send(redis_client, sample_tasks.give.spec("nested")),
    ]
    assert [result(redis_client, job_id) for job_id in ids] == [3, 4, 5, None, {"a": [1, 2.5, "x"]}]
    assert not redis_client.exists(keys.wip("default"), keys.queue("default"))


def test_jobs_that_a_stock_client_enqueues_are_found_and_run(redis_client: redis.Redis, processes: Processes) -> None:
    worker = processes.worker("default")
    worker.prints("worker started")
    queue = Queue("default", connection=redis_client, serializer=JSONSerializer)
    job = queue.enqueue("sample_tasks.add", 2, b=5)
    assert result(redis_client, job.id) == 7


def test_a_failing_job_is_tried_again_and_then_a_dead_letter(redis_client: redis.Redis, processes: Processes) -> None:
    processes.worker("default")
    job_id = send(redis_client, sample_tasks.fail.spec("no such street"))
    wait_until(redis_client, job_id, "failed")
    letter = dead_letters.get(redis_client, job_id)
    assert [(attempt.attempt, attempt.error) for attempt in letter.attempts] == [
        (number, "no such street") for number in (1, 2, 3)
    ]
    assert "raise ValueError(reason)" in letter.attempts[0].traceback


def test_several_queues_are_served_the_first_named_first(redis_client: redis.Redis, processes: Processes) -> None:
    ids = [send(redis_client, sample_tasks.add.spec(1, 1, queue=queue)) for queue in ("low", "high", "low", "high")]
    worker = processes.worker("high", "low", options=("--burst",))
    assert worker.ended(LIMIT_S) == 0
    ended = [redis_client.hget(keys.job(job_id), "ended_at") for job_id in ids]
    assert max(ended[1], ended[3]) < min(ended[0], ended[2])
    assert redis_client.smembers(keys.QUEUES) == {b"rq:queue:high", b"rq:queue:low"}


def test_in_burst_mode_the_worker_ends_when_its_queues_are_empty(redis_client: redis.Redis, processes: Processes) -> None:
    ids = [send(redis_client, sample_tasks.add.spec(1, number)) for number in range(5)]
    worker = processes.worker("default", options=("--burst",))
    assert worker.ended(LIMIT_S) == 0
    assert [result(redis_client, job_id) for job_id in ids] == [1, 2, 3, 4, 5]
    assert overview.workers(redis_client) == []


def test_a_worker_with_a_number_of_jobs_ends_after_them(redis_client: redis.Redis, processes: Processes) -> None:
    for number in range(3):
        send(redis_client, sample_tasks.add.spec(1, number))
    assert processes.worker("default", options=("--max-jobs", "2")).ended(LIMIT_S) == 0
    assert redis_client.llen(keys.queue("default")) == 1


# --- limits and interruptions ----------------------------------------------------------------


@pytest.mark.parametrize("task", [sample_tasks.hold_stubbornly, sample_tasks.hold_async], ids=["sync", "async"])
def test_a_job_that_runs_too_long_fails_even_when_it_swallows_exceptions(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path, task: Any
) -> None:
    processes.worker("default")
    job_id = send(redis_client, task.spec(str(tmp_path)))
    wait_until(redis_client, job_id, "failed")
    letter = dead_letters.get(redis_client, job_id)
    assert (letter.error_type, letter.error) == ("TimeLimitExceeded", "ran longer than its time limit of 0.3 s")
    assert not (tmp_path / "swallowed").exists()
    assert result(redis_client, send(redis_client, sample_tasks.add.spec(1, 2))) == 3


def test_rqs_stop_command_ends_the_running_job_for_good(redis_client: redis.Redis, processes: Processes, tmp_path: Path) -> None:
    processes.worker("default")
    job_id = hold(redis_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    send_stop_job_command(redis_client, job_id, serializer=JSONSerializer)
    wait_until(redis_client, job_id, "failed")
    letter = dead_letters.get(redis_client, job_id)
    assert (letter.error_type, letter.error, len(letter.attempts)) == ("JobStopped", "stopped by an operator", 1)
    assert result(redis_client, send(redis_client, sample_tasks.add.spec(1, 2))) == 3


# --- stopping --------------------------------------------------------------------------------


def test_sigterm_lets_the_job_in_flight_finish_and_takes_no_other(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.worker("default")
    running = hold(redis_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    waiting = send(redis_client, sample_tasks.add.spec(1, 2))
    worker.send(signal.SIGTERM)
    wait_for(lambda: worker.runs and status(redis_client, running) == "started", LIMIT_S, "the job goes on")
    (tmp_path / "go").touch()
    assert worker.ended(LIMIT_S) == 0
    assert (status(redis_client, running), status(redis_client, waiting)) == ("finished", "queued")
    assert overview.workers(redis_client) == []
    assert not redis_client.exists(keys.WORKERS, keys.wip("default"))


@pytest.mark.parametrize(
    ("signals", "drain_s"), [([signal.SIGTERM], "0.2"), ([signal.SIGTERM] * 3, "60"), ([signal.SIGQUIT], "60")]
)
def test_a_job_that_outlives_the_drain_is_handed_back_and_burns_no_attempt(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path, signals: list[signal.Signals], drain_s: str
) -> None:
    worker = processes.worker("default", TURNSTILE_DRAIN_S=drain_s)
    job_id = hold(redis_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    waiting = send(redis_client, sample_tasks.add.spec(1, 2))
    for number in signals:
        worker.send(number)
        time.sleep(0.05)  # signals of one kind that come together are one signal
    assert worker.ended(LIMIT_S) == 0
    job = snapshot(redis_client)[f"rq:job:{job_id}"]
    assert (job["status"], job.get("failures"), job.get("crashes"), job.get("attempts")) == ("queued", None, None, None)
    assert snapshot(redis_client)["rq:queue:default"] == [job_id, waiting]
    (tmp_path / "go").touch()
    processes.worker("default")
    assert result(redis_client, job_id) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_at_once(redis_client: redis.Redis, processes: Processes, number: signal.Signals) -> None:
    worker = processes.worker("default")
    worker.prints("worker started")
    worker.send(number)
    assert worker.ended(5) == 0


def test_rqs_shutdown_command_drains_the_worker(redis_client: redis.Redis, processes: Processes, tmp_path: Path) -> None:
    worker = processes.worker("default", options=("--name", "w1"))
    job_id = hold(redis_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    send_shutdown_command(redis_client, "w1")
    (tmp_path / "go").touch()
    assert worker.ended(LIMIT_S) == 0
    assert status(redis_client, job_id) == "finished"


def test_a_worker_of_the_same_name_starts_at_once_after_a_sigkill(redis_client: redis.Redis, processes: Processes) -> None:
    first = processes.worker("default", options=("--name", "w1"))
    first.prints("worker started")
    first.kill()
    processes.worker("default", options=("--name", "w1"))
    assert result(redis_client, send(redis_client, sample_tasks.add.spec(1, 2))) == 3


# --- pause -----------------------------------------------------------------------------------


def test_a_paused_queue_and_a_suspended_rq_are_left_alone_until_they_are_resumed(
    redis_client: redis.Redis, redis_url: str, processes: Processes
) -> None:
    worker = processes.worker("default", "other")
    worker.prints("worker started")
    overview.pause(redis_client, "default")
    held = send(redis_client, sample_tasks.add.spec(1, 2))
    assert result(redis_client, send(redis_client, sample_tasks.add.spec(1, 3, queue="other"))) == 4
    assert status(redis_client, held) == "queued"
    overview.resume(redis_client, "default")
    assert result(redis_client, held) == 3
    assert processes.start("rq", "suspend", "-u", redis_url).ended(LIMIT_S) == 0
    held = send(redis_client, sample_tasks.add.spec(1, 4))
    beats = snapshot(redis_client)[keys.worker(overview.workers(redis_client)[0].name)]["last_heartbeat"]
    wait_for(
        lambda: snapshot(redis_client)[keys.worker(overview.workers(redis_client)[0].name)]["last_heartbeat"] > beats,
        LIMIT_S,
        "the worker lives",
    )
    assert status(redis_client, held) == "queued"
    assert processes.start("rq", "resume", "-u", redis_url).ended(LIMIT_S) == 0
    assert result(redis_client, held) == 5


# --- what tools see --------------------------------------------------------------------------


def test_rqs_own_tools_see_the_worker_and_its_job(
    redis_client: redis.Redis, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    processes.worker("default", "other", options=("--name", "w1"))
    job_id = hold(redis_client, tmp_path)
    wait_for_file(tmp_path / "started-1")
    wait_for(lambda: overview.workers(redis_client)[0].current_job == job_id, LIMIT_S, "the worker says what it does")
    [seen] = overview.workers(redis_client)
    assert (seen.name, seen.queues, seen.state, seen.pid) == ("w1", ["default", "other"], "busy", processes.started[0].pid)
    info = processes.start("rq", "info", "-u", redis_url, "-S", "json")
    assert info.ended(LIMIT_S) == 0
    assert "1 workers, 1 queues" in info.output
    assert "w1" in info.output and "busy" in info.output
    assert Queue("default", connection=redis_client, serializer=JSONSerializer).started_job_registry.get_job_ids(
        cleanup=False
    ) == [job_id]
    (tmp_path / "go").touch()
    wait_until(redis_client, job_id, "finished")
    wait_for(lambda: overview.workers(redis_client)[0].state == "idle", LIMIT_S, "the worker is idle")
    [seen] = overview.workers(redis_client)
    assert (seen.current_job, seen.successful, seen.failed) == (None, 1, 0)


def test_a_worker_that_is_killed_disappears_when_its_heartbeat_has_stopped(
    redis_client: redis.Redis, processes: Processes
) -> None:
    worker = processes.worker("default", TURNSTILE_LEASE_S="2")
    worker.prints("worker started")
    assert 0 < redis_client.ttl(keys.worker(overview.workers(redis_client)[0].name)) <= 7
    worker.kill()
    wait_for(lambda: overview.workers(redis_client) == [], LIMIT_S, "the worker is forgotten")
