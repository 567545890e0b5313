"""How far a running job is: what it reports, how often that is written, and which report still counts."""

import math
import threading

import msgspec
import redis

from jobs import keys, log
from jobs.errors import InvalidField
from jobs.queue.script import beside

PROGRESS = beside(__file__, "progress")
INTERVAL_S = 0.2
AWAY_S = 5.0
MAX_NUMBER = 2**53
MAX_MESSAGE = 200
RAN = frozenset({"started", "finished", "failed", "stopped"})
"""Statuses whose job has a present or a last run; in every other one it waits for its next run, which has reported nothing."""
logger = log.get("progress")


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """A report: `current` of `total`, which may be unknown. `at` is Unix seconds."""

    current: int | float
    at: float
    total: int | float | None = None
    message: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.total is not None and self.current >= self.total


class Throttle:
    """Decides which reports are written: the first, the one that says that all is done, and five a second in between."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_at = -math.inf
        self._done = False

    def passes(self, done: bool, now: float) -> bool:
        """Whether a report at `now` (any clock that only goes forward, seconds) is to be written."""
        with self._lock:
            if now < self._next_at and (self._done or not done):
                return False
            self._next_at, self._done = now + INTERVAL_S, done
            return True

    def pause(self, now: float) -> None:
        """A write failed: a job is not to wait for an absent Redis at every step."""
        self._next_at = now + AWAY_S


def report(current: float, total: float | None, message: str, at: float) -> Progress:
    """A checked report, its message bounded. Raises InvalidField."""
    for name, number in (("current", current), ("total", 0 if total is None else total)):
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= MAX_NUMBER:
            raise InvalidField(name, f"a number between 0 and 2**53 is needed, not {number!r}")
    if not isinstance(message, str):
        raise InvalidField("message", f"text is needed, not {message!r}")
    text = message.encode("utf-8", "backslashreplace").decode()
    return Progress(current, at, total, text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…")


def write(client: redis.Redis, job_id: str, queue: str, execution: str, made: Progress) -> bool:
    """Writes a report while the lease is held. False, and no error, while Redis cannot take it: no job fails for a report."""
    member = f"{job_id}:{execution}" if execution else ""
    try:
        written = PROGRESS(client, [keys.job(job_id), keys.wip(queue)], [member, msgspec.json.encode(made)])
    except redis.exceptions.RedisError as error:
        logger.debug("progress not written", job_id=job_id, error=str(error))
        return False
    if not written:
        logger.debug("lease lost, progress not written", job_id=job_id)
    return True


def read(field: bytes | str | None, status: str, started_at: float) -> Progress | None:
    """The report of the job's present or last run; what an earlier attempt or a crashed run reported is none.

    A run's start and its reports are instants of one clock, its worker's.
    """
    if not field or status not in RAN:
        return None
    try:
        found = msgspec.json.decode(field, type=Progress)
    except msgspec.MsgspecError:
        return None
    return found if found.at >= started_at else None
