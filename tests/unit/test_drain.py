"""Stopping: when what runs is interrupted, ended by force, and when the worker goes whatever is unwritten."""

import math
import os
import select
import signal
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.queue.drain import GIVE_UP_S, MOMENT_S, SIGNALS_TO_FORCE, Drain

WITHIN_S = 20.0


class At:
    """A clock that stands where it was set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def handlers() -> Iterator[None]:
    """The process's own signal handlers are put back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def steps(drain: Drain, now: float) -> tuple[bool, bool, bool]:
    return drain.interrupts(now), drain.abandons(now), drain.gives_up(now)


def test_nothing_is_due_before_anybody_asks() -> None:
    drain = Drain(WITHIN_S, At())
    assert (drain.asked, steps(drain, 1e9), drain.next_at()) == (False, (False, False, False), math.inf)


def test_each_step_is_said_once_and_in_its_time() -> None:
    drain = Drain(WITHIN_S, At())
    drain.begin()
    end = 100 + WITHIN_S
    assert (drain.asked, drain.next_at(), steps(drain, end - 0.1)) == (True, end, (False, False, False))
    assert steps(drain, end) == (True, False, False)
    assert (drain.next_at(), steps(drain, end + 0.1)) == (end + MOMENT_S, (False, False, False))
    assert steps(drain, end + MOMENT_S) == (False, True, False)
    assert (drain.next_at(), steps(drain, end + GIVE_UP_S)) == (end + GIVE_UP_S, (False, False, True))


def test_asking_again_neither_prolongs_the_drain_nor_repeats_what_was_done() -> None:
    at = At()
    drain = Drain(WITHIN_S, at)
    drain.begin()
    assert drain.interrupts(100 + WITHIN_S)
    at.now = 100 + WITHIN_S
    drain.begin()
    drain.force()
    assert (drain.interrupts(at.now + 1), drain.next_at()) == (False, 100 + WITHIN_S + MOMENT_S)


def test_force_makes_everything_due_from_now() -> None:
    at = At()
    drain = Drain(WITHIN_S, at)
    drain.begin()
    at.now = 101.0
    drain.force()
    assert steps(drain, 101.0) == (True, False, False)
    assert steps(drain, 101.0 + MOMENT_S) == (False, True, False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_third_signal_forces(handlers: None, number: signal.Signals) -> None:
    drain = Drain(WITHIN_S, At())
    drain.install()
    for count in range(1, SIGNALS_TO_FORCE + 1):
        signal.raise_signal(number)
        assert (drain.signalled, drain.asked, drain.interrupts(100.0)) == (True, True, count == SIGNALS_TO_FORCE)


def test_sigquit_forces_and_wakes_whoever_waits(handlers: None) -> None:
    drain = Drain(WITHIN_S, At())
    drain.install()
    assert select.select([drain.fileno()], [], [], 0)[0] == []
    signal.raise_signal(signal.SIGQUIT)
    assert select.select([drain.fileno()], [], [], 0)[0] == [drain.fileno()]
    assert drain.interrupts(100.0)
    drain.clear()
    drain.clear()
    assert select.select([drain.fileno()], [], [], 0)[0] == []


def test_a_signal_is_noted_even_when_nobody_has_read_the_ones_before() -> None:
    drain = Drain(WITHIN_S, At())
    os.set_blocking(drain.fileno(), True)
    for _ in range(100_000):  # more than a pipe holds
        drain.begin()
    assert drain.asked


@given(st.lists(st.sampled_from(["begin", "force", "wait", "look"]), max_size=30))
def test_whatever_comes_the_order_is_kept_and_the_end_comes_in_time(moves: list[str]) -> None:
    at = At()
    drain = Drain(5.0, at)
    asked_at, said = math.inf, []
    for move in [*moves, "begin", *["wait", "look"] * 10]:
        if move == "wait":
            at.now += 1.0
        elif move == "look":
            said += [what for what in ("interrupts", "abandons") if getattr(drain, what)(at.now)]
        else:
            asked_at = min(asked_at, at.now)
            getattr(drain, move)()
        if math.isfinite(asked_at) and at.now >= asked_at + 5.0 + GIVE_UP_S:
            assert drain.gives_up(at.now)
    assert said == ["interrupts", "abandons"]
