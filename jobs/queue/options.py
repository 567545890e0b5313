"""How a task's jobs are called and run: declared with the task, and each open to another value for one call."""

from dataclasses import dataclass
from typing import Literal, get_args

from jobs.errors import InvalidField
from jobs.queue.backoff import Backoff
from jobs.queue.priorities import base
from jobs.setting_values import QUEUE_NAME
from jobs.settings import current

Priority = Literal["high", "normal", "low"]
DEFAULT_TIME_LIMIT_S = 180.0
MAX_S = 10**9
"""Thirty years. Redis refuses an expiry that is much longer, which must not come out when the job has run."""


@dataclass(frozen=True, slots=True)
class Options:
    """Durations are seconds. What is None is the task's own (`queue`, `retry`) or the settings' (`result_ttl_s`).

    `unique` is True until the job has ended, or for how long; `expires_s` counts from when the job may start. Of a `retry`
    that is given for one call, the numbers hold, and the errors of the task's own policy.
    """

    queue: str | None = None
    priority: Priority = "normal"
    time_limit_s: float = DEFAULT_TIME_LIMIT_S
    soft_time_limit_s: float | None = None
    result_ttl_s: int | None = None
    ignore_result: bool = False
    expires_s: float | None = None
    unique: bool | float = False
    retry: Backoff | None = None

    def __post_init__(self) -> None:
        if self.queue is not None:
            check_queue(self.queue)
        if self.priority not in get_args(Priority):
            raise InvalidField("priority", f"must be one of {', '.join(get_args(Priority))}")
        durations = {"time_limit_s": self.time_limit_s, "soft_time_limit_s": self.soft_time_limit_s, "expires_s": self.expires_s}
        for name, seconds in durations.items():
            if seconds is not None and not _lasts(seconds):
                raise InvalidField(name, f"a number of seconds above 0 is needed, not {seconds!r}")
        if self.soft_time_limit_s is not None and self.soft_time_limit_s >= self.time_limit_s:
            raise InvalidField("soft_time_limit_s", f"must lie below time_limit_s ({self.time_limit_s:g})")
        if self.result_ttl_s is not None and not (isinstance(self.result_ttl_s, int) and -1 <= self.result_ttl_s <= MAX_S):
            raise InvalidField("result_ttl_s", f"a whole number of seconds is needed, or -1 for ever, not {self.result_ttl_s!r}")
        if self.unique is not True and self.unique is not False and not _lasts(self.unique):
            raise InvalidField("unique", f"True, False or seconds above 0 are needed, not {self.unique!r}")
        if self.retry is not None and not isinstance(self.retry, Backoff):
            raise InvalidField("retry", f"a Backoff is needed, not {self.retry!r}")

    def keeps_s(self) -> int:
        """How long a finished job is kept with its result; 0 for not at all."""
        if self.ignore_result:
            return 0
        return current().result_ttl_s if self.result_ttl_s is None else self.result_ttl_s

    def placed_on(self, queue: str) -> str:
        """The RQ queue of a job on `queue` with this priority. Raises InvalidField: a priority's own queue has no priorities."""
        if self.priority == "normal":
            return queue
        if base(queue) != queue:
            raise InvalidField("priority", f"{queue!r} is already the queue of a priority, and no worker serves one beside it")
        return f"{queue}.{self.priority}"


def check_queue(name: str) -> None:
    """Raises InvalidField for what cannot be a queue's name."""
    if not isinstance(name, str) or not QUEUE_NAME.fullmatch(name):
        raise InvalidField("queue", f"letters, digits, '_', '-' and '.' are needed, at most 64, not {name!r}")


def _lasts(seconds: float) -> bool:
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds <= MAX_S
