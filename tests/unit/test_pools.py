"""Ranges, the scaling decision and the server's clock: pure, so that their bounds can be searched for faults."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import BadSettings
from jobs.queue.clock import Clock
from jobs.queue.pools import SHRINK_AFTER_S, Scaler, pool_name
from jobs.setting_values import MAX_SIZE, Range
from jobs.settings import Settings

RANGES = st.tuples(st.integers(1, MAX_SIZE), st.integers(1, MAX_SIZE)).map(lambda pair: Range(min(pair), max(pair)))
SECONDS = st.floats(0, 40)


@given(RANGES)
def test_a_range_reads_what_it_says(given_range: Range) -> None:
    assert Range.parse(str(given_range)) == given_range


def test_one_number_is_a_range_without_room() -> None:
    assert Range.parse("4") == Range(4, 4)
    assert str(Range.parse(" 1..8 ")) == "1..8"


@pytest.mark.parametrize("text", ["", "0", "0..4", "8..1", "1..1001", "1...3", "-1..3", "many", "1..", "9" * 5_000, "٣"])
def test_what_is_no_range_is_refused_with_what_is_asked_for(text: str) -> None:
    with pytest.raises(ValueError, match=r"1\.\.8"):
        Range.parse(text)


def test_the_settings_give_ranges_and_refuse_what_is_none_by_name() -> None:
    read = Settings.from_env({"TURNSTILE_CPU_CHILDREN": "2..3", "TURNSTILE_IO_SLOTS": "50", "TURNSTILE_CHILD_MAX_JOBS": "0"})
    assert (read.cpu_children, read.io_slots, read.child_max_jobs) == (Range(2, 3), Range(50, 50), 0)
    assert Settings.from_env({}).cpu_children == Range(1, os.cpu_count() or 1)
    with pytest.raises(BadSettings) as caught:
        Settings.from_env({"TURNSTILE_IO_SLOTS": "9..3", "TURNSTILE_CHILD_MAX_MEMORY_MB": "-1"})
    assert [problem.key for problem in caught.value.problems] == ["TURNSTILE_CHILD_MAX_MEMORY_MB", "TURNSTILE_IO_SLOTS"]


def test_a_pool_is_named_by_its_queues() -> None:
    assert pool_name(["entries", "picking"]) == "entries-picking"


# --- scaling ----------------------------------------------------------------------------------


@given(RANGES, st.integers(1, MAX_SIZE), st.lists(st.tuples(SECONDS, SECONDS, st.integers(0, 1_200), RANGES), max_size=30))
def test_a_size_is_never_outside_its_range_nor_shrunk_below_the_busy(
    within: Range, size: int, steps: list[tuple[float, float, int, Range]]
) -> None:
    scaler, now = Scaler(within), 0.0
    for number, (passed_s, age_s, busy, other) in enumerate(steps):
        now += passed_s
        if number % 5 == 4:
            scaler.range = other
        before, size = size, scaler.sized(size, now=now, oldest_age_s=age_s, busy=busy)
        assert scaler.range.min <= size <= scaler.range.max
        if scaler.range.min <= before <= scaler.range.max and size < before:
            assert size >= busy


@given(RANGES)
def test_under_a_lasting_load_it_doubles_each_second_up_to_the_maximum(within: Range) -> None:
    scaler, size = Scaler(within), within.min
    for second in range(11):
        before, size = size, scaler.sized(size, now=second, oldest_age_s=1.0, busy=size)
        assert size == min(2 * before, within.max)
        assert scaler.sized(size, now=second + 0.5, oldest_age_s=1.0, busy=size) == size
    assert size == within.max


@given(RANGES, st.integers(0, MAX_SIZE))
def test_without_a_load_it_comes_down_to_what_is_busy_and_one_spare(within: Range, busy: int) -> None:
    scaler, size, busy = Scaler(within), within.max, min(busy, within.max)
    for second in range(0, 31 * 60, 2):
        size = scaler.sized(size, now=second, oldest_age_s=0.0, busy=busy)
    assert size in (max(within.min, busy), max(within.min, min(busy + 1, within.max)))


def test_it_shrinks_by_a_quarter_of_those_that_were_idle_all_the_time() -> None:
    scaler = Scaler(Range(1, 100))
    sizes = [
        scaler.sized(40, now=second, oldest_age_s=0.0, busy=20 if second == 7 else 0) for second in range(int(SHRINK_AFTER_S) + 1)
    ]
    assert sizes == [40] * int(SHRINK_AFTER_S) + [35]


def test_jobs_that_wait_while_slots_are_free_are_no_reason_to_grow() -> None:
    assert Scaler(Range(1, 8)).sized(2, now=0.0, oldest_age_s=100.0, busy=1) == 2


# --- the clock --------------------------------------------------------------------------------


class Local:
    """A clock of this machine that is set by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@given(st.floats(-1e6, 1e6), st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=20))
def test_a_clock_is_never_wrong_by_more_than_the_last_round_trip(skew_s: float, trips: list[tuple[float, float]]) -> None:
    server = 1_763_764_205.0
    local = Local(server + skew_s)
    clock = Clock(local)
    assert clock.now() == local()
    for there_s, back_s in trips:
        sent_at, answered_at = local.now, server + there_s
        server, local.now = server + there_s + back_s, local.now + there_s + back_s
        clock.learn(answered_at, sent_at, local.now)
        assert abs(clock.now() - server) <= there_s + back_s + 1e-5


def test_a_slow_answer_does_not_spoil_what_a_quick_one_told_and_a_clock_that_is_set_is_seen_at_once() -> None:
    local = Local(1_000.0)
    clock = Clock(local)
    clock.learn(1_060.001, 1_000.0, 1_000.002)
    clock.learn(1_065.0, 1_001.0, 1_011.0)
    assert clock.now() == pytest.approx(1_060.0)
    local.now = 5_000.0
    clock.learn(1_070.001, 5_000.0, 5_000.002)
    assert clock.now() == pytest.approx(1_070.0, abs=0.002)
