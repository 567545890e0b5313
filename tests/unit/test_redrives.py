"""How many letters of a redrive the scheduler takes in hand at once."""

import math

from hypothesis import given
from hypothesis import strategies as st

from jobs.queue.redrives import FASTEST, SLOWEST, Redrive
from scheduler.redrives import BATCH, n_due

START = 1_763_764_205.0


def record(rate_per_s: float | None) -> Redrive:
    """An open record whose next letter is due at START."""
    return Redrive("r", "redrive", "open", 9, 0, 0, "test", START, START, rate_per_s=rate_per_s)


@given(rate=st.floats(SLOWEST, FASTEST), after_s=st.floats(-1e6, 1e6))
def test_none_before_the_next_is_due_then_one_at_least_and_one_seconds_worth_at_most(rate: float, after_s: float) -> None:
    number = n_due(record(rate), START + after_s)
    if START + after_s < START:
        assert number <= 0
    else:
        assert 1 <= number <= math.ceil(rate)


def test_without_a_rate_a_batch_is_due() -> None:
    assert n_due(record(None), START - 9) == BATCH
