"""The lines of the log: what interrupts a process while it writes one goes on."""

import io
import logging

import pytest
from rq.exceptions import StopRequested
from rq.timeouts import JobTimeoutException

from jobs.log import Lines


class Interrupted(logging.Formatter):
    """A signal comes while the line is made."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def format(self, record: logging.LogRecord) -> str:
        raise self._error


def lines(error: Exception) -> logging.Logger:
    handler = Lines(io.StringIO())
    handler.setFormatter(Interrupted(error))
    logger = logging.Logger("interrupted")
    logger.addHandler(handler)
    return logger


@pytest.mark.parametrize("error", [StopRequested(), JobTimeoutException("180 seconds")], ids=["stop", "time limit"])
def test_a_stop_that_comes_while_a_line_is_written_goes_on(error: Exception) -> None:
    with pytest.raises(type(error)):
        lines(error).info("alpha: sample.add(1, 2) (j1)")


def test_an_error_in_a_line_is_reported_and_nothing_else_happens(capsys: pytest.CaptureFixture[str]) -> None:
    lines(ValueError("no such field")).info("alpha: sample.add(1, 2) (j1)")
    assert "no such field" in capsys.readouterr().err
