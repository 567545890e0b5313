"""The history of attempts: bounded whatever is raised, readable whatever was stored."""

import base64
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.queue import attempts
from jobs.queue.attempts import KEPT, MAX_MESSAGE, MAX_TRACEBACK, Attempt, failed_attempt


class Unspeakable(Exception):
    """An error that cannot be turned into text."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001  whatever it is
        return caught


def test_an_attempt_says_when_where_and_why() -> None:
    found = failed_attempt(2, 1.0, 3.5, "w-1", raised(ValueError("no\nsuch  street")))
    assert (found.attempt, found.started_at, found.ended_at, found.worker) == (2, 1.0, 3.5, "w-1")
    assert (found.error_type, found.error) == ("ValueError", "no such street")
    assert found.traceback.rstrip().endswith("ValueError: no\nsuch  street")


def test_an_error_without_words_is_called_by_its_type() -> None:
    assert failed_attempt(1, 0.0, 0.0, "w", raised(KeyError())).error == "KeyError"


def test_message_and_traceback_are_bounded() -> None:
    found = failed_attempt(1, 0.0, 0.0, "w", raised(ValueError("x" * 50_000)))
    assert len(found.error) == MAX_MESSAGE
    assert len(found.traceback) <= MAX_TRACEBACK + 100
    assert "characters left out" in found.traceback


@pytest.mark.parametrize(
    "error", [Unspeakable(), ValueError("caf\udce9"), ValueError("a\x00b"), OSError(2, "no such file", "\udcff")]
)
def test_any_error_can_be_described_and_stored(error: BaseException) -> None:
    found = failed_attempt(1, 0.0, 0.0, "w", raised(error))
    assert found.error
    history = attempts.append(b"", found)
    assert attempts.read(history.encode()) == [found]
    attempts.rq_exc_string(found.traceback)
    assert len(attempts.fingerprint("t", found.error_type, found.error)) == 12


@given(st.text())
def test_any_text_can_be_described_and_stored(text: str) -> None:
    found = failed_attempt(1, 0.0, 0.0, "w", ValueError(text))
    assert attempts.read(attempts.append("", found).encode()) == [found]


def test_the_last_attempts_are_kept() -> None:
    history = ""
    for number in range(1, KEPT + 4):
        history = attempts.append(history, Attempt(number, 0.0, 0.0, "w", "E", "e"))
    assert [attempt.attempt for attempt in attempts.read(history)] == list(range(4, KEPT + 4))


@given(st.binary(max_size=60))
def test_no_history_crashes_its_reader(stored: bytes) -> None:
    assert isinstance(attempts.read(stored), list)


def test_a_history_that_cannot_be_read_is_not_in_the_way_of_the_next_attempt() -> None:
    last = Attempt(1, 0.0, 0.0, "w", "E", "e")
    assert attempts.read(attempts.append(b'{"not": "a list"}', last)) == [last]


def test_the_same_error_about_different_things_is_one_group() -> None:
    one = attempts.fingerprint("orders.deliver", "CarrierError", "order ord_019f3b7c0de4 failed after 3 s at 0x7f01")
    two = attempts.fingerprint("orders.deliver", "CarrierError", "order ord_019f3b7c0de5 failed after 17 s at 0x7f02")
    assert one == two
    assert one != attempts.fingerprint("orders.pack", "CarrierError", "order ord_019f3b7c0de4 failed after 3 s at 0x7f01")
    assert one != attempts.fingerprint("orders.deliver", "Permanent", "order ord_019f3b7c0de4 failed after 3 s at 0x7f01")


def test_a_traceback_is_stored_as_rq_reads_it() -> None:
    assert zlib.decompress(base64.b64decode(attempts.rq_exc_string("Traceback: é"))).decode() == "Traceback: é"


def test_an_attempt_is_plain_json() -> None:
    stored = attempts.append("", Attempt(1, 0.5, 1.0, "w", "E", "e"))
    assert msgspec.json.decode(stored) == [
        {"attempt": 1, "started_at": 0.5, "ended_at": 1.0, "worker": "w", "error_type": "E", "error": "e"}
    ]
