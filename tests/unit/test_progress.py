"""Progress: which reports are written, what may be reported, and whose report counts."""

import math
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import InvalidField
from jobs.queue.progress import INTERVAL_S, MAX_MESSAGE, MAX_NUMBER, Progress, Throttle, read, report

STEPS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60)


@given(STEPS)
def test_the_first_report_and_the_one_that_says_done_pass_and_five_a_second_in_between(steps: list[tuple[float, bool]]) -> None:
    throttle, now = Throttle(), 1_000.0
    written: list[tuple[float, bool]] = []
    for pause_s, done in steps:
        now += pause_s
        passed = throttle.passes(done, now)
        assert passed or written, "the first one passes"
        assert passed or not done or written[-1][1], "a job that is done says so"
        if passed:
            written.append((now, done))
    for (before, was_done), (after, done) in pairwise(written):
        assert after - before >= INTERVAL_S * 0.999 or (done and not was_done)


@given(st.integers(1, 500))
def test_a_tight_loop_writes_its_first_and_its_last_step(steps: int) -> None:
    throttle = Throttle()
    assert [step for step in range(1, steps + 1) if throttle.passes(step == steps, 0.0)] == sorted({1, steps})


def test_after_a_failed_write_only_the_end_is_tried_again_at_once() -> None:
    throttle = Throttle()
    assert throttle.passes(False, 0.0)
    throttle.pause(0.1)
    assert not throttle.passes(False, 4.9)
    assert throttle.passes(True, 4.9)
    throttle.pause(5.0)
    assert throttle.passes(False, 10.0)


@pytest.mark.parametrize("number", [-1, math.nan, math.inf, True, "3", None, 2**60])
def test_what_is_no_number_is_refused_by_name(number: float) -> None:
    with pytest.raises(InvalidField, match="current"):
        report(number, None, "", 0.0)
    if number is not None:
        with pytest.raises(InvalidField, match="total"):
            report(1, number, "", 0.0)


def test_a_message_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidField, match="message"):
        report(1, 2, b"x", 0.0)  # type: ignore[arg-type]  # what a careless task does


@given(st.integers(0, MAX_NUMBER) | st.floats(0, MAX_NUMBER), st.none() | st.integers(0, MAX_NUMBER), st.text(max_size=300))
def test_every_report_survives_the_hash_with_its_message_bounded(current: float, total: float | None, message: str) -> None:
    made = report(current, total, message, 5.0)
    assert len(made.message) <= MAX_MESSAGE
    assert read(msgspec.json.encode(made), "started", 5.0) == made
    assert made.done is (total is not None and current >= total)


def test_text_that_utf_8_cannot_hold_is_no_reason_to_fail() -> None:
    made = report(1, 2, "caf\udce9", 0.0)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Progress).message == "caf\\udce9"


def test_only_the_present_or_the_last_run_has_progress() -> None:
    field = msgspec.json.encode(report(1, 2, "", 100.0))
    for status in ("started", "finished", "failed"):
        assert read(field, status, 100.0) is not None
        assert read(field, status, 100.1) is None, "an earlier run's"
    for status in ("queued", "scheduled", "canceled", ""):
        assert read(field, status, 100.0) is None, "the next run has not begun"
    for nothing in (None, b"", b"{", b'{"current": "x"}'):
        assert read(nothing, "started", 0.0) is None
