"""How long jobs take, as measured."""

import math

from jobs.queue.ending import Claim
from jobs.queue.pace import MAX_TASKS, Pace


def claim(task: str) -> Claim:
    return Claim("j1", "e1", "default", "w1", {b"task": task.encode()}, 0.0)


def test_nothing_is_expected_of_a_task_before_one_of_its_jobs_has_ended() -> None:
    pace = Pace()
    assert pace.expected_s(claim("a.b")) == math.inf
    pace.learn(claim("a.b"), 0.5)
    assert pace.expected_s(claim("a.b")) == 0.5
    assert pace.expected_s(claim("a.c")) == math.inf


def test_what_is_expected_follows_what_is_measured() -> None:
    pace = Pace()
    for _ in range(50):
        pace.learn(claim("a.b"), 1.0)
    for _ in range(50):
        pace.learn(claim("a.b"), 0.001)
    assert 0.001 <= pace.expected_s(claim("a.b")) < 0.002


def test_invented_names_do_not_fill_the_memory() -> None:
    pace = Pace()
    for number in range(3 * MAX_TASKS):
        pace.learn(claim(f"t{number}"), 1.0)
    assert len(pace._expected_s) <= MAX_TASKS
