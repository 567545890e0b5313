"""Every error that Turnstile raises on purpose.

Errors carry data; the text is built from it, by the sentence in `says`. Two roots matter to a
worker: `Permanent` is never retried, everything else is, as the task's backoff says.
`JobInterrupted` is no `Exception`, so that a task's `except Exception` cannot swallow it.
"""

import asyncio
from dataclasses import dataclass
from typing import ClassVar


class Speaking:
    """Says what it carries: `says` is the text, with the names of its fields in braces."""

    says: ClassVar[str] = "{reason}"

    def __str__(self) -> str:
        return self.says.format_map(vars(self))


class TurnstileError(Speaking, Exception):
    """Root of the errors that a caller may want to catch."""


@dataclass(frozen=True)
class SettingProblem(Speaking):
    """One refused environment variable."""

    says = "{key}={value!r}: {reason}"
    key: str
    value: str
    reason: str


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

    says = "Redis at {where} cannot be used: {reason}"
    where: str
    reason: str


@dataclass
class DataDirInUse(TurnstileError):
    """Raised when another process runs on the same data directory; `since` is its start in local time."""

    says = (
        "The data directory {data_dir} is in use by process {pid} since {since}: "
        "stop it, or set TURNSTILE_DATA_DIR to another directory"
    )
    data_dir: str
    pid: int
    since: str


@dataclass
class InvalidField(TurnstileError):
    """Raised when a value from outside is refused: names the field, the reason and, where it helps, the fix."""

    says = "{field}: {reason}"
    field: str
    reason: str


@dataclass
class Explained(TurnstileError):
    """An error that is its reason."""

    reason: str


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


class RedisAway(Refused):
    """Raised when Redis does not answer in time; whether the request was accepted nobody knows, repeating it is safe."""

    says = "Redis does not answer ({reason}); send the same request again"


@dataclass
class TooMany(Refused):
    """Raised when a client asks for more than its rate limit allows; nothing was accepted."""

    headers: dict[str, str]


@dataclass
class UnknownTask(TurnstileError):
    """Raised when a task name is not on the allow-list of this program."""

    says = "task {name!r} is not on the allow-list"
    name: str


@dataclass
class RetryAfter(TurnstileError):
    """Raised by a task that knows when to try again; at least `delay_s` seconds pass before the next attempt."""

    says = "{reason} (asked to wait {delay_s:g} s)"
    delay_s: float
    reason: str


@dataclass
class CircuitOpen(TurnstileError):
    """Raised when a downstream fails too often to be called; it is worth asking again at `retry_at` (Unix seconds)."""

    says = "the circuit of {name} is open"
    name: str
    retry_at: float


@dataclass
class CarrierError(TurnstileError):
    """Raised when the carrier gave no usable answer and another attempt may: no connection, 408, 425, 429, 5xx."""

    reason: str
    status: int | None = None

    def __str__(self) -> str:
        return f"carrier: {self.reason}" if self.status is None else f"carrier answered {self.status}: {self.reason}"


@dataclass
class ReceiverError(TurnstileError):
    """Raised when the receiver of an order's changes gave no good answer, but another attempt may: no address, not 2xx."""

    reason: str
    status: int | None = None

    def __str__(self) -> str:
        return f"receiver: {self.reason}" if self.status is None else f"receiver answered {self.status}: {self.reason}"


@dataclass
class IdempotencyMismatch(TurnstileError):
    """Raised when an Idempotency-Key is used again with another body."""

    says = "Idempotency-Key {key!r} already stands for order {order_id} with another body"
    key: str
    order_id: str


@dataclass
class Conflict(Explained):
    """Raised when a request is understood but the present state forbids it."""

    status: str = ""


@dataclass
class NotFound(TurnstileError):
    """Raised when an id leads nowhere."""

    says = "no {kind} with id {id!r}"
    kind: str
    id: str


@dataclass
class JobGone(NotFound):
    """Raised when a job that somebody holds a handle of is not in Redis."""

    says = "no job with id {id!r}: it finished without a kept result, its result has expired, or it never was"


@dataclass
class UnknownPool(NotFound):
    """Raised when a pool of workers has neither a live worker nor a range that was set."""

    says = "no {kind} with id {id!r}; known are: {known}"
    known: str


@dataclass
class NotFinished(TurnstileError):
    """Raised when the result is asked for of a job that has not ended, or not within the time given."""

    says = "job {id!r} has not finished: it is {status}"
    id: str
    status: str


@dataclass
class JobFailed(TurnstileError):
    """Raised when the result is asked for of a job that has none: dead, cancelled, expired or stopped.

    `status` is RQ's word for it; without an error of the task's, `error` is the reason.
    """

    id: str
    status: str
    error_type: str
    error: str

    def __str__(self) -> str:
        return ": ".join(part for part in (f"job {self.id!r} is {self.status}", self.error_type, self.error) if part)


@dataclass
class CanvasFailed(TurnstileError):
    """Raised when the result of a canvas is asked for that has failed, for now at least, or was cancelled."""

    says = "canvas {id} is {status}"
    id: str
    status: str


@dataclass
class CanvasNotFinished(NotFinished):
    """Raised when the result of a canvas is asked for that runs, or does not finish within the time given."""

    says = "canvas {id!r} has not finished: it is {status}"


class JobInterrupted(Speaking, asyncio.CancelledError):
    """Root of what a worker raises inside a running job from outside it.

    To asyncio it is a cancellation: a TaskGroup or `wait_for` that it strikes ends what it has started.
    """


@dataclass
class SoftTimeLimitExceeded(JobInterrupted):
    """Raised once inside a job that ran longer than its soft limit: time to tidy up. Not caught, the attempt has failed."""

    says = "ran longer than its soft time limit of {limit_s:g} s"
    limit_s: float


@dataclass
class TimeLimitExceeded(JobInterrupted):
    """Raised inside a job that ran longer than its task's `time_limit_s`. Counts as a failed attempt."""

    says = "ran longer than its time limit of {limit_s:g} s"
    limit_s: float


class JobStopped(JobInterrupted):
    """Raised inside a job that an operator stopped. Goes to the dead letters without a retry."""

    says = "stopped by an operator"


class DrainTimeout(JobInterrupted):
    """Raised inside a job that outlives the drain of its worker: the job is handed back, no attempt is burned."""

    says = "the worker stops"
