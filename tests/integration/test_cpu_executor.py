"""The executor of child processes: results, time limits, interruptions, taking back, size."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import child_tasks
import pytest
import redis
from hall import Hall, exists, open_halls, runs

from jobs import connections
from jobs.errors import DrainTimeout, JobStopped
from jobs.queue.cpu_executor import CpuExecutor
from jobs.queue.task import Task


@pytest.fixture
def halls() -> Iterator[Callable[..., Hall]]:
    with open_halls() as make:
        yield make


@pytest.fixture
def hall(halls: Callable[..., Hall]) -> Hall:
    return halls()


# --- jobs end ---------------------------------------------------------------------------------


def test_every_job_ends_once_with_its_result_and_both_children_work(hall: Hall, tmp_path: Path) -> None:
    sums = [hall.claim(child_tasks.add, number, 1) for number in range(2_000)]
    assert [json.loads(outcome.result) for outcome in hall.run(*sums)] == list(range(1, 2_001))
    assert len({hall.result(hall.claim(child_tasks.note, str(tmp_path), "x", 0.0)) for _ in range(20)} | set(hall.pids)) == 2
    slow = [hall.claim(child_tasks.note, str(tmp_path), f"n{number}", 0.05) for number in range(6)]
    assert {json.loads(outcome.result) for outcome in hall.run(*slow)} == set(hall.pids)


def test_what_a_job_sees_is_its_own(hall: Hall) -> None:
    claims = [hall.claim(child_tasks.look) for _ in range(6)]
    seen = [json.loads(outcome.result) for outcome in hall.run(*claims)]
    for claim, found in zip(claims, seen, strict=True):
        assert found["job"] == [claim.id, "default", 1, "w1", "e1"]
        assert found["log"] == {"job_id": claim.id, "queue": "default", "attempt": 1}
        assert found["left"] is None, "what a job binds does not reach the next one"
        assert found["stdin"] == ""
        assert found["terminated"] == -signal.SIGTERM, "a process that a job starts does not inherit our deaf ears"
    assert len({found["random"] for found in seen}) == len(seen)
    assert len({found["pid"] for found in seen}) == 2
    assert len({found["files"] for found in seen}) == 1, "no child holds an end of its sibling's"


def test_what_a_job_prints_and_logs_is_seen_at_once_and_it_may_close_its_output(
    halls: Callable[..., Hall], capfd: pytest.CaptureFixture[str]
) -> None:
    hall = halls(1)
    claim, closing = hall.claim(child_tasks.say, "a"), hall.claim(child_tasks.say, "b", True)
    hall.run(claim)
    printed = "".join(capfd.readouterr())
    assert "printed a" in printed and claim.id in next(line for line in printed.splitlines() if "logged" in line)
    pids = hall.pids
    hall.run(closing)
    assert hall.result(hall.claim(child_tasks.add, 1, 2)) == 3
    assert hall.pids == pids


def test_an_unknown_task_an_unreadable_call_and_a_late_job_end_without_being_run(hall: Hall) -> None:
    unknown = hall.claim(child_tasks.add, 1, 2, data='["no.such.task",null,[],{}]')
    unreadable = hall.claim(child_tasks.add, 1, 2, data="{")
    late = hall.claim(child_tasks.add, 1, 2, expires_at=1.0)
    assert [outcome.what for outcome in hall.run(unknown, unreadable, late)] == ["dead", "dead", "expired"]


def test_a_job_that_exits_has_failed_and_one_that_forks_has_one_answer(hall: Hall) -> None:
    pids = set(hall.pids)
    (left,) = hall.run(hall.claim(child_tasks.leave))
    assert left.what == "dead" and left.failed is not None and left.failed.error_type == "SystemExit"
    assert hall.result(hall.claim(child_tasks.fork)) == "the right one"
    assert hall.result(hall.claim(child_tasks.add, 1, 2)) == 3
    assert set(hall.pids) == pids


def test_large_arguments_and_results_cross_each_other_in_both_directions(hall: Hall) -> None:
    texts = [letter * 6_000_000 for letter in "abcdef"]
    claims = [hall.claim(child_tasks.echo, text) for text in texts]
    assert [outcome.result for outcome in hall.run(*claims)] == [child_tasks.encoded(text) for text in texts]
    small = [hall.claim(child_tasks.echo, "x" * size) for size in range(0, 100_000, 997)]
    assert [len(outcome.result) - 2 for outcome in hall.run(*small)] == list(range(0, 100_000, 997))


def test_a_child_has_a_connection_of_its_own(redis_client: redis.Redis, settings: object, halls: Callable[..., Hall]) -> None:
    ours = redis_client.client_id()
    connections.share(redis_client)
    hall = halls(2, on_fork=lambda: connections.share(connections.tuned(redis_client)))
    seen = {hall.result(hall.claim(child_tasks.client)) for _ in range(4)}
    assert ours not in seen
    assert redis_client.client_id() == ours
    connections._shared.clear()


# --- interruptions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task", [child_tasks.sleep, child_tasks.sleep_async, child_tasks.block_loop], ids=lambda task: str(task.name)
)
def test_the_time_limit_is_raised_where_the_job_is(hall: Hall, task: Task) -> None:
    pids = set(hall.pids)
    (outcome,) = hall.run(hall.claim(task, 60.0, time_limit_s=0.2))
    assert outcome.what == "dead" and outcome.failed is not None
    assert outcome.failed.error_type == "TimeLimitExceeded"
    assert f"in {task.function.__name__}" in outcome.failed.traceback
    assert hall.result(hall.claim(child_tasks.add, 1, 2)) == 3
    assert set(hall.pids) == pids, "nothing had to be killed"


@pytest.mark.parametrize("how", ["swallow", "call into C", "block signals", "stop"])
def test_a_job_that_defies_its_time_limit_is_killed_and_has_failed(hall: Hall, how: str, tmp_path: Path) -> None:
    other = hall.claim(child_tasks.wait, str(tmp_path), "other")
    began = time.monotonic()
    defiant = hall.claim(child_tasks.defy, how, time_limit_s=0.2)
    hall.submit(other)
    (outcome,) = hall.run(defiant)
    assert time.monotonic() - began < 0.2 + 0.5 + 1.0
    assert outcome.what == "dead" and outcome.failed is not None
    assert (outcome.failed.error_type, outcome.failed.error) == ("TimeLimitExceeded", "ran longer than its time limit of 0.2 s")
    (tmp_path / "go").touch()
    hall.until(lambda: other.id in hall.outcomes, "the other one ends")
    assert hall.outcomes[other.id].what == "finished"
    assert runs(tmp_path, "other") == 1
    assert len(hall.pids) == 2


def test_the_soft_limit_is_raised_once_and_may_be_caught(hall: Hall) -> None:
    assert (
        hall.result(hall.claim(child_tasks.tidy, 60.0, soft_time_limit_s=0.1)) == "ran longer than its soft time limit of 0.1 s"
    )
    assert hall.result(hall.claim(child_tasks.tidy, 0.1)) == "slept"


def test_an_interruption_for_one_job_never_strikes_another(hall: Hall) -> None:
    pids = set(hall.pids)
    claims = [hall.claim(child_tasks.sleep, 0.001) for _ in range(600)]
    hall.submit(*claims)
    meant: set[str] = set()
    while len(hall.outcomes) < len(claims):
        for member in list(hall.executor.begun()):
            meant.add(member.partition(":")[0])
            hall.executor.interrupt(JobStopped(), member.partition(":")[0])
        hall.turn()
    struck = {job_id for job_id, outcome in hall.outcomes.items() if outcome.what == "dead"}
    assert struck and struck <= meant
    assert {outcome.what for outcome in hall.outcomes.values()} == {"dead", "finished"}
    assert set(hall.pids) == pids


def test_a_drain_hands_all_running_jobs_back_and_a_stop_ends_the_one_that_is_meant(hall: Hall) -> None:
    stopped, other = (hall.claim(task, 60.0) for task in (child_tasks.sleep, child_tasks.sleep_async))
    hall.submit(stopped, other)
    hall.begins(stopped, other)
    hall.executor.interrupt(JobStopped(), stopped.id)
    hall.until(lambda: stopped.id in hall.outcomes, "the job is stopped")
    failed = hall.outcomes[stopped.id].failed
    assert failed is not None and failed.error_type == "JobStopped"
    assert other.id not in hall.outcomes
    hall.executor.interrupt(DrainTimeout())
    hall.until(lambda: other.id in hall.outcomes, "the job is interrupted")
    assert hall.outcomes[other.id].what == "handed back"


# --- taking back, size, end -------------------------------------------------------------------


def test_what_is_taken_back_never_runs_and_the_rest_does(hall: Hall, tmp_path: Path) -> None:
    taken: set[str] = set()
    claims = [hall.claim(child_tasks.note, str(tmp_path), f"n{number}", 0.0) for number in range(4_000)]
    for start in range(0, len(claims), 40):
        hall.submit(*claims[start : start + 40])
        if start % 80:
            back = [claim.id for claim in hall.executor.take_back()]
            assert not taken & set(back)
            taken |= set(back)
        hall.turn()
    hall.until(lambda: len(hall.outcomes) + len(taken) == len(claims), "the rest ends")
    assert taken and hall.outcomes and not taken & hall.outcomes.keys()
    assert sum(child.n_sent for child in hall.executor._children) == len(hall.outcomes), "nor does it count for recycling"
    for number, claim in enumerate(claims):
        assert runs(tmp_path, f"n{number}") == (claim.id in hall.outcomes), claim.id


def test_nothing_waits_behind_a_job_that_turns_out_to_be_long(hall: Hall, tmp_path: Path) -> None:
    hall.run(*(hall.claim(child_tasks.add, number, 1) for number in range(10)))
    long = hall.claim(child_tasks.wait, str(tmp_path), "long")
    hall.executor._pace.learn(long, 0.000_01)  # as its like were so far
    short = [hall.claim(child_tasks.add, number, 1) for number in range(20)]
    hall.submit(*short[:5], long, *short[5:])
    hall.until(lambda: len(hall.outcomes) == 30, "all others end, those before it in its child too", 2)
    assert list(hall.executor.begun()) == [long.member]
    (tmp_path / "go").touch()
    hall.until(lambda: long.id in hall.outcomes, "the long one ends")


def test_nothing_is_sent_to_where_a_job_has_turned_out_to_be_long(halls: Callable[..., Hall], tmp_path: Path) -> None:
    hall = halls(1)
    long, short = hall.claim(child_tasks.wait, str(tmp_path), "long"), hall.claim(child_tasks.add, 1, 2)
    for claim in (long, short):
        hall.executor._pace.learn(claim, 0.000_01)
    hall.submit(long)
    hall.begins(long)
    since = time.monotonic()
    hall.until(lambda: time.monotonic() - since > 0.1, "it is seen to be long")
    hall.submit(short)
    assert not hall.executor._children[0].tokens.left()
    (tmp_path / "go").touch()
    hall.until(lambda: len(hall.outcomes) == 2, "both end")


def test_size_follows_at_once_upwards_and_spares_what_runs_downwards(halls: Callable[..., Hall], tmp_path: Path) -> None:
    hall = halls(1)
    claims = [hall.claim(child_tasks.wait, str(tmp_path), f"w{number}") for number in range(4)]
    hall.submit(*claims)
    hall.begins(claims[0])
    hall.executor.resize(3)
    hall.begins(*claims[:3])
    hall.executor.resize(1)
    hall.turn()
    assert len(hall.executor.begun()) == 3
    assert [claim.id for claim in hall.executor.take_back()] == [claims[3].id]
    (tmp_path / "go").touch()
    hall.until(lambda: len(hall.outcomes) == 3 and len(hall.pids) == 1, "they end, and one child is left")
    assert {outcome.what for outcome in hall.outcomes.values()} == {"finished"}


def test_idle_children_go_first(halls: Callable[..., Hall], tmp_path: Path) -> None:
    hall = halls(3)
    claim = hall.claim(child_tasks.wait, str(tmp_path), "w")
    hall.submit(claim)
    hall.begins(claim)
    hall.executor.resize(1)
    hall.until(lambda: len(hall.pids) == 1, "the idle ones exit")
    (tmp_path / "go").touch()
    hall.until(lambda: claim.id in hall.outcomes, "the job ends")
    assert hall.outcomes[claim.id].result == child_tasks.encoded(hall.pids[0])


def test_what_is_abandoned_is_returned_and_does_not_end(hall: Hall, tmp_path: Path) -> None:
    claims = [hall.claim(child_tasks.wait, str(tmp_path), name) for name in "abc"]
    hall.submit(*claims)
    hall.begins(*claims[:2])
    assert [claim.id for claim in hall.executor.take_back()] == [claims[2].id]
    assert {claim.id for claim in hall.executor.abandon()} == {claims[0].id, claims[1].id}
    hall.turn()
    assert not hall.outcomes and not hall.executor.begun()


def test_stopping_takes_no_time_when_nothing_runs(halls: Callable[..., Hall]) -> None:
    hall = halls(3)
    hall.run(*(hall.claim(child_tasks.add, number, 1) for number in range(100)))
    pids, began = hall.pids, time.monotonic()
    hall.executor.stop()
    assert time.monotonic() - began < 1.0
    assert not any(map(exists, pids))
    hall.executor = CpuExecutor(max_jobs=0, max_memory_mb=0, on_fork=int)
