"""Every error that Turnstile raises on purpose.

Errors carry data; the text is built from it in `__str__`. Two roots matter to a
worker: `Permanent` is never retried, everything else is, as the task's backoff says.
`JobInterrupted` is no `Exception`, so that a task's `except Exception` cannot swallow it.
"""

from __future__ import annotations

from dataclasses import dataclass


class TurnstileError(Exception):
    """Root of the errors that a caller may want to catch."""


@dataclass(frozen=True)
class SettingProblem:
    """One refused environment variable."""

    key: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key}={self.value!r}: {self.reason}"


@dataclass
class BadSettings(TurnstileError):
    """Raised when the environment holds unknown or unusable variables; names all of them at once."""

    problems: list[SettingProblem]

    def __str__(self) -> str:
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        return f"The environment has {len(self.problems)} unusable setting(s):\n{lines}"


@dataclass
class NoRedis(TurnstileError):
    """Raised when no Redis is configured and none can be started or reached."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"Redis at {self.where} cannot be used: {self.reason}"


@dataclass
class DataDirInUse(TurnstileError):
    """Raised when another process runs on the same data directory; `since` is its start in local time."""

    data_dir: str
    pid: int
    since: str

    def __str__(self) -> str:
        return (
            f"The data directory {self.data_dir} is in use by process {self.pid} since {self.since}: "
            "stop it, or set TURNSTILE_DATA_DIR to another directory"
        )


@dataclass
class InvalidField(TurnstileError):
    """Raised when a value from outside is refused: names the field, the reason and, where it helps, the fix."""

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


@dataclass
class Explained(TurnstileError):
    """An error that is its reason."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class Permanent(Explained):
    """Raised by a task when another attempt cannot help: the job goes to the dead letters at once."""


class Malformed(Explained):
    """Raised when a body cannot be read at all: not JSON, not UTF-8, empty."""


class TooLarge(Explained):
    """Raised when a body or a list in it is larger than what is taken."""


@dataclass
class Refused(Explained):
    """Raised when new work is not admitted for the time being; nothing was accepted."""

    retry_after_s: int


@dataclass
class UnknownTask(TurnstileError):
    """Raised when a task name is not on the allow-list of this program."""

    name: str

    def __str__(self) -> str:
        return f"task {self.name!r} is not on the allow-list"


@dataclass
class RetryAfter(TurnstileError):
    """Raised by a task that knows when to try again; at least `delay_s` seconds pass before the next attempt."""

    delay_s: float
    reason: str

    def __str__(self) -> str:
        return f"{self.reason} (asked to wait {self.delay_s:g} s)"


@dataclass
class CarrierError(TurnstileError):
    """Raised when the carrier gave no usable answer and another attempt may: no connection, 408, 425, 429, 5xx."""

    reason: str
    status: int | None = None

    def __str__(self) -> str:
        return f"carrier: {self.reason}" if self.status is None else f"carrier answered {self.status}: {self.reason}"


@dataclass
class IdempotencyMismatch(TurnstileError):
    """Raised when an Idempotency-Key is used again with another body."""

    key: str
    order_id: str

    def __str__(self) -> str:
        return f"Idempotency-Key {self.key!r} already stands for order {self.order_id} with another body"


@dataclass
class Conflict(Explained):
    """Raised when a request is understood but the present state forbids it."""

    status: str = ""


@dataclass
class NotFound(TurnstileError):
    """Raised when an id leads nowhere."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"no {self.kind} with id {self.id!r}"


class JobInterrupted(BaseException):
    """Root of what a worker raises inside a running job from outside it."""


@dataclass
class TimeLimitExceeded(JobInterrupted):
    """Raised inside a job that ran longer than its task's `time_limit_s`. Counts as a failed attempt."""

    limit_s: float

    def __str__(self) -> str:
        return f"ran longer than its time limit of {self.limit_s:g} s"


class JobStopped(JobInterrupted):
    """Raised inside a job that an operator stopped. Goes to the dead letters without a retry."""

    def __str__(self) -> str:
        return "stopped by an operator"


class DrainTimeout(JobInterrupted):
    """Raised inside a job that outlives the drain of its worker: the job is handed back, no attempt is burned."""

    def __str__(self) -> str:
        return "the worker stops"
