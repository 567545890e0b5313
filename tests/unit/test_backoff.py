"""Backoff: one pure decision, within its bounds for every policy, attempt, error and draw."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import (
    CarrierError,
    CircuitOpen,
    DrainTimeout,
    JobStopped,
    Permanent,
    RetryAfter,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    UnknownTask,
)
from jobs.queue.backoff import MAX_STRETCH, MAX_WISH_S, Backoff, Dead, Defer, Retry, decide, stretch

UNIFORM = st.floats(0, 1, exclude_max=True)
SHARE = st.floats(0, 1)
JITTERS = ("full", "decorrelated", "none")


@st.composite
def policies(draw: st.DrawFn, *jitters: str) -> Backoff:
    base_s = draw(st.floats(0, 1e6))
    jitter = draw(st.sampled_from(jitters or JITTERS))
    return Backoff(draw(st.integers(1, 10_000)), base_s, draw(st.floats(base_s, 1e9)), jitter)  # type: ignore[arg-type]


RETRIED = st.sampled_from([ValueError("x"), OSError(), CarrierError("down", 503), TimeLimitExceeded(3.0)])


def ceiling(policy: Backoff, attempt: int) -> float:
    doubled = policy.base_s * 2.0 ** (attempt - 1) if attempt < 1_000 else math.inf
    return min(policy.cap_s, doubled if policy.base_s else 0.0)


# --- delays ----------------------------------------------------------------------------------


@given(policies("full"), st.integers(1, 20_000), RETRIED, UNIFORM)
def test_a_delay_lies_between_zero_and_the_capped_doubling(
    policy: Backoff, attempt: int, error: BaseException, uniform: float
) -> None:
    outcome = decide(policy, attempt, error, uniform)
    if attempt >= policy.max_attempts:
        assert outcome == Dead(f"attempt {attempt} of {policy.max_attempts} failed")
    else:
        assert isinstance(outcome, Retry)
        assert 0 <= outcome.delay_s <= ceiling(policy, attempt)


@given(policies("none"), st.integers(1, 9_000), UNIFORM, st.floats(0, 1e9))
def test_without_jitter_the_delay_is_the_capped_doubling_whatever_is_drawn(
    policy: Backoff, attempt: int, uniform: float, previous_s: float
) -> None:
    outcome = decide(policy, attempt, ValueError(), uniform, previous_s=previous_s)
    if attempt < policy.max_attempts:
        assert isinstance(outcome, Retry)
        assert outcome.delay_s == pytest.approx(ceiling(policy, min(attempt, 61)))


@given(policies("decorrelated"), UNIFORM, st.floats(allow_nan=True, allow_infinity=True))
def test_a_decorrelated_delay_lies_between_the_base_and_three_times_the_one_before(
    policy: Backoff, uniform: float, previous_s: float
) -> None:
    outcome = decide(policy, 1, ValueError(), uniform, previous_s=previous_s)
    if policy.max_attempts == 1:
        return
    assert isinstance(outcome, Retry)
    assert min(policy.base_s, policy.cap_s) <= outcome.delay_s <= policy.cap_s
    if math.isfinite(previous_s):
        assert outcome.delay_s <= max(3 * policy.base_s, 3 * previous_s) * (1 + 1e-9)


def test_a_decorrelated_delay_grows_from_the_one_before_and_not_from_the_attempts_number() -> None:
    policy = Backoff(100, 1.0, 1_000.0, "decorrelated")
    assert decide(policy, 1, ValueError(), 0.5) == decide(policy, 50, ValueError(), 0.5) == Retry(2.0)
    assert decide(policy, 2, ValueError(), 0.5, previous_s=10.0) == Retry(15.5)


def test_the_ceiling_doubles_from_the_base_to_the_cap() -> None:
    policy = Backoff(10, base_s=1.0, cap_s=10.0)
    delays = [decide(policy, attempt, ValueError(), 0.5) for attempt in range(1, 7)]
    assert delays == [Retry(0.5), Retry(1.0), Retry(2.0), Retry(4.0), Retry(5.0), Retry(5.0)]


# --- what is retried -------------------------------------------------------------------------


@given(policies(), st.integers(1, 100), UNIFORM)
def test_a_permanent_error_is_dead_at_the_first_attempt(policy: Backoff, attempt: int, uniform: float) -> None:
    for error in (Permanent("no"), UnknownTask("x"), JobStopped()):
        assert decide(policy, attempt, error, uniform) == Dead("permanent")


def test_errors_that_a_policy_gives_up_on_are_dead_at_once() -> None:
    policy = Backoff(give_up_on=(LookupError,))
    assert decide(policy, 1, LookupError(), 0.0) == Dead("permanent")
    assert decide(policy, 1, KeyError("sku"), 0.0) == Dead("permanent"), "a subclass"
    assert isinstance(decide(policy, 1, ValueError(), 0.0), Retry)


def test_only_the_errors_that_a_policy_retries_on_are_retried() -> None:
    policy = Backoff(retry_on=(OSError, SoftTimeLimitExceeded))
    for error in (OSError(), ConnectionResetError(), SoftTimeLimitExceeded(1.0)):
        assert isinstance(decide(policy, 1, error, 0.0), Retry), error
    for other in (ValueError(), TimeLimitExceeded(1.0)):
        assert decide(policy, 1, other, 0.0) == Dead("permanent"), other


def test_giving_up_comes_before_retrying() -> None:
    policy = Backoff(retry_on=(OSError,), give_up_on=(ConnectionError,))
    assert isinstance(decide(policy, 1, OSError(), 0.0), Retry)
    assert decide(policy, 1, ConnectionResetError(), 0.0) == Dead("permanent")
    assert decide(Backoff(retry_on=(Permanent,)), 1, Permanent("no"), 0.0) == Dead("permanent")


def test_a_task_that_asks_for_a_retry_gets_it_though_its_policy_lists_other_errors() -> None:
    assert decide(Backoff(retry_on=(OSError,)), 1, RetryAfter(0.25, "busy"), 0.0) == Retry(0.25)
    assert decide(Backoff(give_up_on=(RetryAfter,)), 1, RetryAfter(0.25, "busy"), 0.0) == Dead("permanent")
    assert isinstance(decide(Backoff(2), 2, RetryAfter(0.25, "busy"), 0.0), Dead), "its attempts are numbered all the same"


def test_a_task_that_exits_is_not_tried_again_but_one_that_was_interrupted_is() -> None:
    assert decide(Backoff(), 1, SystemExit(0), 0.0) == Dead("exit")
    assert decide(Backoff(), 1, KeyboardInterrupt(), 0.0) == Dead("exit")
    assert decide(Backoff(retry_on=(BaseException,)), 1, SystemExit(0), 0.0) == Dead("exit")
    assert isinstance(decide(Backoff(), 1, TimeLimitExceeded(1.0), 0.0), Retry)
    assert isinstance(decide(Backoff(), 1, SoftTimeLimitExceeded(1.0), 0.0), Retry)
    assert isinstance(decide(Backoff(), 1, DrainTimeout(), 0.0), Retry)


# --- wishes, open circuits -------------------------------------------------------------------


@given(policies(), st.floats(0, 3_600), UNIFORM, SHARE)
def test_no_attempt_is_due_before_the_time_that_the_error_names(
    policy: Backoff, delay_s: float, uniform: float, failing: float
) -> None:
    outcome = decide(policy, 1, RetryAfter(delay_s, "busy"), uniform, failing=failing)
    if policy.max_attempts == 1:
        assert isinstance(outcome, Dead)
    else:
        assert isinstance(outcome, Retry)
        assert delay_s <= outcome.delay_s <= delay_s + policy.base_s


@pytest.mark.parametrize("delay_s", [-5.0, math.nan, math.inf, -math.inf, 1e300])
def test_a_nonsensical_wish_gives_a_delay_that_ends(delay_s: float) -> None:
    outcome = decide(Backoff(3, 0.0, 0.0), 1, RetryAfter(delay_s, "?"), 0.5)
    assert isinstance(outcome, Retry)
    assert 0 <= outcome.delay_s <= MAX_WISH_S
    deferred = decide(Backoff(3, 0.0, 0.0), 1, CircuitOpen("carrier", delay_s), 0.5)
    assert isinstance(deferred, Defer)
    assert 0 <= deferred.delay_s <= 2 * MAX_WISH_S


@given(policies(), st.integers(1, 20_000), UNIFORM, st.floats(0, 2e9), st.floats(0, 3_600))
def test_a_job_that_meets_an_open_circuit_is_deferred_until_it_may_be_asked_again_at_any_attempt(
    policy: Backoff, attempt: int, uniform: float, now: float, wait_s: float
) -> None:
    outcome = decide(policy, attempt, CircuitOpen("carrier", now + wait_s), uniform, now=now)
    assert isinstance(outcome, Defer)
    assert (now + wait_s) - now <= outcome.delay_s <= max(wait_s * 1.5, wait_s + policy.base_s) + 1e-3


def test_deferred_jobs_are_spread_and_do_not_come_back_at_once() -> None:
    delays = {decide(Backoff(), 1, CircuitOpen("carrier", 30.0), number / 100).delay_s for number in range(100)}  # type: ignore[union-attr]
    assert len(delays) == 100
    assert max(delays) - min(delays) > 10


# --- the budget ------------------------------------------------------------------------------


@given(SHARE, SHARE)
def test_retries_slow_down_the_more_the_more_executions_fail(one: float, other: float) -> None:
    assert 1.0 <= stretch(one) <= MAX_STRETCH
    if one <= other:
        assert stretch(one) <= stretch(other)


def test_a_task_of_which_half_succeeds_is_not_slowed_and_one_that_always_fails_is_by_eight() -> None:
    assert [stretch(0.0), stretch(0.5), stretch(0.75), stretch(1.0), stretch(7.0)] == [1.0, 1.0, 4.5, 8.0, 8.0]


@given(policies(), UNIFORM, SHARE)
def test_a_delay_is_stretched_by_the_share_that_fails(policy: Backoff, uniform: float, failing: float) -> None:
    calm, hot = (decide(policy, 1, ValueError(), uniform, failing=share) for share in (0.0, failing))
    if policy.max_attempts > 1:
        assert isinstance(calm, Retry)
        assert hot == Retry(calm.delay_s * stretch(failing))


# --- the policy itself -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempts", "base_s", "cap_s"),
    [(0, 1.0, 2.0), (1, -1.0, 2.0), (1, 3.0, 2.0), (1, math.nan, 2.0), (1, 1.0, math.nan), (1, math.inf, math.inf)],
)
def test_a_policy_that_makes_no_sense_is_refused_where_it_is_declared(attempts: int, base_s: float, cap_s: float) -> None:
    with pytest.raises(ValueError, match="max_attempts >= 1 and 0 <= base_s <= cap_s < inf are needed"):
        Backoff(attempts, base_s, cap_s)


def test_an_unknown_jitter_is_refused() -> None:
    with pytest.raises(ValueError, match="jitter 'half': must be one of full, decorrelated, none"):
        Backoff(jitter="half")  # type: ignore[arg-type]


@given(policies(), policies())
def test_the_numbers_of_a_policy_travel_with_a_job_and_its_errors_stay(own: Backoff, other: Backoff) -> None:
    task = Backoff(own.max_attempts, own.base_s, own.cap_s, own.jitter, retry_on=(OSError,), give_up_on=(KeyError,))
    found = task.overridden(other.encode())
    assert (found.max_attempts, found.base_s, found.cap_s, found.jitter) == (
        other.max_attempts,
        other.base_s,
        other.cap_s,
        other.jitter,
    )
    assert (found.retry_on, found.give_up_on) == ((OSError,), (KeyError,))


@pytest.mark.parametrize(
    "text", ["", "3", "3:1.0:2.0", "x:1.0:2.0:full", "3:1.0:2.0:half", "3:nan:2.0:full", "0:1.0:2.0:full", "3:1:2:full:x"]
)
def test_numbers_that_are_no_policy_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal|jitter|needed"):
        Backoff().overridden(text)
