"""The children of a CpuWorker: they die, are stopped, recycled, and end with their parent. Each job comes to exactly one end."""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import child_tasks
import pytest
from hall import Hall, exists, open_halls, runs
from processes import Processes, wait_for

from jobs.errors import JobStopped
from jobs.queue import forked
from jobs.queue.channel import Ended
from jobs.queue.forked import Job


@pytest.fixture
def halls() -> Iterator[Callable[..., Hall]]:
    with open_halls() as make:
        yield make


@pytest.fixture
def hall(halls: Callable[..., Hall]) -> Hall:
    return halls()


# --- one child by hand ------------------------------------------------------------------------


def test_an_interruption_that_comes_just_before_its_job_begins_is_not_lost(hall: Hall) -> None:
    child = forked.fork(time.monotonic(), int)
    child.board.interrupt(1, JobStopped())
    child.send([Job(hall.claim(child_tasks.sleep, 60.0), 0.0), Job(hall.claim(child_tasks.add, 1, 2), 0.0)], short=True)
    ended: list[Ended] = []

    def both() -> bool:
        ended.extend(child.received()[0])
        return len(ended) == 2

    wait_for(both, 5, "both end")
    child.retire()
    assert wait_for(child.is_gone, 5, "the child exits")
    child.close()
    assert [(end.number, end.outcome.what) for end in ended] == [(1, "dead"), (2, "finished")]


# --- deaths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["segfault", "exit", "kill"])
def test_a_death_hurts_only_the_job_that_ran(hall: Hall, how: str) -> None:
    before = [hall.claim(child_tasks.add, number, 1) for number in range(60)]
    fatal = hall.claim(child_tasks.die, how)
    after = [hall.claim(child_tasks.add, number, 1) for number in range(60)]
    hall.run(hall.claim(child_tasks.add, 1, 1))
    hall.executor._pace.learn(fatal, 0.000_01)  # so that it is sent together with others
    ends = hall.run(*before, fatal, *after)
    assert ends[60].what == "crashed"
    assert {outcome.what for outcome in ends[:60] + ends[61:]} == {"finished"}
    assert len(hall.pids) == 2


def test_each_job_has_one_end_however_often_its_child_is_killed(hall: Hall, tmp_path: Path) -> None:
    uniform, n, crashed = random.Random(4), 3_000, 0
    claims = [hall.claim(child_tasks.note, str(tmp_path), f"n{number}", 0.0) for number in range(n)]
    for start in range(0, n, 100):
        hall.submit(*claims[start : start + 100])
        for _ in range(2):
            hall.turn()
            time.sleep(uniform.random() * 0.004)
            if hall.pids:
                os.kill(uniform.choice(hall.pids), signal.SIGKILL)
    hall.until(lambda: len(hall.outcomes) == n, "all jobs end", 60)
    ends = Counter(outcome.what for outcome in hall.outcomes.values())
    crashed = ends["crashed"]
    assert ends["finished"] == n - crashed
    assert crashed <= 60, "a death costs one job at most"
    assert {runs(tmp_path, f"n{number}") for number in range(n)} <= {0, 1}
    assert all(runs(tmp_path, f"n{number}") == 1 for number in range(n) if hall.outcomes[f"job-{number}"].what == "finished")


def test_a_child_that_is_stopped_while_idle_is_replaced_and_keeps_no_job(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.queue.cpu_executor.PATIENCE_S", 0.3)
    hall.run(hall.claim(child_tasks.add, 1, 1))
    stopped = hall.pids
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    ends = hall.run(*(hall.claim(child_tasks.add, number, 1) for number in range(100)))
    assert {outcome.what for outcome in ends} == {"finished"}
    assert not set(hall.pids) & set(stopped)


def test_children_that_die_young_are_not_forked_in_a_storm(halls: Callable[..., Hall]) -> None:
    hall = halls(1, on_fork=lambda: os._exit(9))
    forked = set()
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        forked |= set(hall.pids)
        hall.turn()
    assert len(forked) == 1


def test_children_end_with_their_parent_and_leave_signals_of_the_group_to_it(processes: Processes, tmp_path: Path) -> None:
    program = (
        "import sys, time, child_tasks\n"
        "from hall import Hall\n"
        "hall = Hall(2)\n"
        "claims = [hall.claim(child_tasks.wait, sys.argv[1], name) for name in 'ab']\n"
        "hall.submit(*claims)\n"
        "hall.begins(*claims)\n"
        "print('children', *hall.pids, flush=True)\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "driver.py").write_text(program)
    parent = processes.start(sys.executable, str(tmp_path / "driver.py"), str(tmp_path))
    parent.prints("children")
    pids = [int(word) for word in parent.output.split("children")[1].split()[:2]]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        for pid in pids:
            os.kill(pid, number)
    assert all(map(exists, pids))
    parent.send(signal.SIGKILL)
    wait_for(lambda: not any(map(exists, pids)), 5, "the children end")


def test_a_death_is_seen_at_once_though_a_process_that_a_job_started_lives_on(hall: Hall) -> None:
    started = hall.result(hall.claim(child_tasks.leave_behind))
    pids = hall.pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    try:
        wait_for(lambda: hall.executor.ended() or not set(hall.pids) & set(pids), 5, "both are replaced")
    finally:
        os.kill(started, signal.SIGKILL)


# --- recycling --------------------------------------------------------------------------------


def test_a_child_is_recycled_after_its_jobs_and_never_does_more(halls: Callable[..., Hall], tmp_path: Path) -> None:
    hall = halls(2, max_jobs=7)
    claims = [hall.claim(child_tasks.note, str(tmp_path), "n", 0.0) for _ in range(200)]
    by_child = Counter(json.loads(outcome.result) for outcome in hall.run(*claims))
    assert max(by_child.values()) == 7
    assert len(by_child) >= 200 / 7
    hall.until(lambda: len(hall.pids) == 2, "the recycled ones exit")
    assert hall.result(hall.claim(child_tasks.add, 1, 2)) == 3


def test_recycling_never_makes_more_long_jobs_run_at_once(halls: Callable[..., Hall], tmp_path: Path) -> None:
    hall = halls(1, max_jobs=1)
    first, second = (hall.claim(child_tasks.wait, str(tmp_path), name) for name in "ab")
    hall.submit(first, second)
    hall.begins(first)
    hall.until(lambda: len(hall.pids) == 2, "the next child is there before it is needed")
    for _ in range(10):
        hall.turn()
    assert list(hall.executor.begun()) == [first.member]
    (tmp_path / "go").touch()
    hall.until(lambda: len(hall.outcomes) == 2, "both end")


def test_a_child_that_has_grown_is_recycled(halls: Callable[..., Hall], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.queue.child.WEIGH_S", 0.0)
    limit_mb = 300
    hall = halls(1, max_memory_mb=limit_mb)
    pids = [hall.result(hall.claim(child_tasks.grow, 60)) for _ in range(20)]
    assert 2 <= len(set(pids)) <= 10
    assert hall.executor.memory_bytes() < (3 * limit_mb + 200) * 1_048_576
    assert hall.executor.memory_bytes() > 20 * 1_048_576


def test_recycling_leaves_no_file_and_no_process_behind(halls: Callable[..., Hall]) -> None:
    hall = halls(2, max_jobs=1)
    hall.run(*(hall.claim(child_tasks.add, number, 1) for number in range(10)))
    hall.until(lambda: len(hall.pids) == 2, "the recycled ones exit")
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    hall.run(*(hall.claim(child_tasks.add, number, 1) for number in range(40)))
    hall.until(lambda: len(hall.pids) == 2, "the recycled ones exit")
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208
