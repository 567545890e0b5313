"""Backoff: one pure decision, within its bounds for every policy, attempt, error and draw."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import CarrierError, DrainTimeout, JobStopped, Permanent, RetryAfter, TimeLimitExceeded, UnknownTask
from jobs.queue.backoff import Backoff, Dead, Retry, decide

UNIFORM = st.floats(0, 1, exclude_max=True)


@st.composite
def policies(draw: st.DrawFn) -> Backoff:
    base_s = draw(st.floats(0, 1e6))
    return Backoff(draw(st.integers(1, 10_000)), base_s, draw(st.floats(base_s, 1e9)))


RETRIED = st.sampled_from([ValueError("x"), OSError(), CarrierError("down", 503), TimeLimitExceeded(3.0)])


@given(policies(), st.integers(1, 20_000), RETRIED, UNIFORM)
def test_a_delay_lies_between_zero_and_the_capped_doubling(
    policy: Backoff, attempt: int, error: BaseException, uniform: float
) -> None:
    outcome = decide(policy, attempt, error, uniform)
    if attempt >= policy.max_attempts:
        assert outcome == Dead(f"attempt {attempt} of {policy.max_attempts} failed")
    else:
        assert isinstance(outcome, Retry)
        doubled = policy.base_s * 2.0 ** (attempt - 1) if attempt < 1_000 else math.inf
        assert 0 <= outcome.delay_s <= min(policy.cap_s, doubled if policy.base_s else 0.0)


@given(policies(), st.integers(1, 100), UNIFORM)
def test_a_permanent_error_is_dead_at_the_first_attempt(policy: Backoff, attempt: int, uniform: float) -> None:
    for error in (Permanent("no"), UnknownTask("x"), JobStopped()):
        assert decide(policy, attempt, error, uniform) == Dead("permanent")


@given(policies(), st.floats(0, 3_600), UNIFORM)
def test_no_attempt_is_due_before_the_time_that_the_error_names(policy: Backoff, delay_s: float, uniform: float) -> None:
    outcome = decide(policy, 1, RetryAfter(delay_s, "busy"), uniform)
    if policy.max_attempts == 1:
        assert isinstance(outcome, Dead)
    else:
        assert isinstance(outcome, Retry)
        assert delay_s <= outcome.delay_s <= delay_s + policy.base_s


@pytest.mark.parametrize("delay_s", [-5.0, math.nan, math.inf, -math.inf, 1e300])
def test_a_nonsensical_wish_gives_a_delay_that_ends(delay_s: float) -> None:
    outcome = decide(Backoff(3, 0.0, 0.0), 1, RetryAfter(delay_s, "?"), 0.5)
    assert isinstance(outcome, Retry)
    assert 0 <= outcome.delay_s <= 7 * 86_400


def test_the_ceiling_doubles_from_the_base_to_the_cap() -> None:
    policy = Backoff(10, base_s=1.0, cap_s=10.0)
    delays = [decide(policy, attempt, ValueError(), 0.5) for attempt in range(1, 7)]
    assert delays == [Retry(0.5), Retry(1.0), Retry(2.0), Retry(4.0), Retry(5.0), Retry(5.0)]


def test_errors_that_a_policy_gives_up_on_are_dead_at_once() -> None:
    policy = Backoff(give_up_on=(KeyError,))
    assert decide(policy, 1, KeyError("sku"), 0.0) == Dead("permanent")
    assert isinstance(decide(policy, 1, IndexError(), 0.0), Retry)


def test_a_task_that_exits_is_not_tried_again_but_one_that_was_interrupted_is() -> None:
    assert decide(Backoff(), 1, SystemExit(0), 0.0) == Dead("exit")
    assert decide(Backoff(), 1, KeyboardInterrupt(), 0.0) == Dead("exit")
    assert isinstance(decide(Backoff(), 1, TimeLimitExceeded(1.0), 0.0), Retry)
    assert isinstance(decide(Backoff(), 1, DrainTimeout(), 0.0), Retry)


@pytest.mark.parametrize(("attempts", "base_s", "cap_s"), [(0, 1.0, 2.0), (1, -1.0, 2.0), (1, 3.0, 2.0), (1, math.nan, 2.0)])
def test_a_policy_that_makes_no_sense_is_refused_where_it_is_declared(attempts: int, base_s: float, cap_s: float) -> None:
    with pytest.raises(ValueError, match="max_attempts >= 1 and 0 <= base_s <= cap_s are needed"):
        Backoff(attempts, base_s, cap_s)
