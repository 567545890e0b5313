"""Errors: they carry data, say it in one line, and an interruption cannot be swallowed by `except Exception`."""

import pickle

import pytest

from jobs import errors

SAID: list[tuple[BaseException, str]] = [
    (errors.NoRedis("unix:///s", "gone"), "Redis at unix:///s cannot be used: gone"),
    (errors.InvalidField("gate", "too long"), "gate: too long"),
    (errors.UnknownTask("os.system"), "task 'os.system' is not on the allow-list"),
    (errors.Permanent("the address does not exist"), "the address does not exist"),
    (errors.RetryAfter(2.5, "busy"), "busy (asked to wait 2.5 s)"),
    (errors.CarrierError("ConnectError: refused"), "carrier: ConnectError: refused"),
    (errors.CarrierError("down", 503), "carrier answered 503: down"),
    (errors.IdempotencyMismatch("k", "ord_1"), "Idempotency-Key 'k' already stands for order ord_1 with another body"),
    (errors.Conflict("too late", "delivered"), "too late"),
    (errors.NotFound("order", "ord_1"), "no order with id 'ord_1'"),
    (
        errors.JobGone("job", "j"),
        "no job with id 'j': it finished without a kept result, its result has expired, or it never was",
    ),
    (errors.NotFinished("j", "queued"), "job 'j' has not finished: it is queued"),
    (errors.JobFailed("j", "failed", "ValueError", "no"), "job 'j' is failed: ValueError: no"),
    (errors.JobFailed("j", "canceled", "", ""), "job 'j' is canceled"),
    (errors.TimeLimitExceeded(1.5), "ran longer than its time limit of 1.5 s"),
    (errors.JobStopped(), "stopped by an operator"),
    (errors.DrainTimeout(), "the worker stops"),
    (errors.SettingProblem("PORT", "x", "a number is needed"), "PORT='x': a number is needed"),  # type: ignore[list-item]  # no error itself
]


@pytest.mark.parametrize(("error", "said"), SAID, ids=[type(error).__name__ for error, _ in SAID])
def test_an_error_says_what_it_carries(error: BaseException, said: str) -> None:
    assert str(error) == said


def test_the_data_directory_in_use_names_its_holder_and_the_way_out() -> None:
    said = str(errors.DataDirInUse(".turnstile", 12, "2026-11-21 03:04:05"))
    assert "process 12 since 2026-11-21 03:04:05" in said
    assert "TURNSTILE_DATA_DIR" in said


@pytest.mark.parametrize("error", [errors.TimeLimitExceeded(1.0), errors.JobStopped(), errors.DrainTimeout()])
def test_an_interruption_is_no_exception_that_a_task_could_swallow(error: BaseException) -> None:
    assert isinstance(error, errors.JobInterrupted)
    assert not isinstance(error, Exception)


def test_an_error_travels_between_processes_with_its_data() -> None:
    error = pickle.loads(pickle.dumps(errors.RetryAfter(2.0, "busy")))
    assert (error.delay_s, error.reason) == (2.0, "busy")
