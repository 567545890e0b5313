"""How a run of a job ended, as data: decided where the job ran, written where its lease is held.

A child of a worker decides, with the error that the job raised in its hands, and its parent writes; so an outcome travels
between processes as MessagePack.
"""

from typing import Any, Literal

import msgspec

from jobs.queue.attempts import Attempt

What = Literal["finished", "retry", "deferred", "dead", "handed back", "expired", "crashed"]
"""`crashed`: the process that ran the job has died; no attempt, but too many in a row are quarantined."""


class Outcome(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The end of one run at `ended_at` (Unix seconds).

    `result` is JSON and `result_ttl_s` says how long it is kept, of a finished job; `failed` is the attempt of one that is
    to be retried or is dead; `delay_s` is how long it waits, retried or deferred; `reason` says why it is dead.
    """

    what: What
    task: str
    ended_at: float
    result: bytes = b""
    result_ttl_s: int = 0
    failed: Attempt | None = None
    delay_s: float = 0.0
    reason: str = ""

    @property
    def is_execution(self) -> bool:
        """Whether the task has run to an end of its own, good or bad: what counts for its retry budget."""
        return self.what in ("finished", "retry", "dead")

    def shifted(self, by_s: float) -> "Outcome":
        """The same by a clock that is so much ahead of the one it was made with."""
        failed = self.failed and msgspec.structs.replace(self.failed, ended_at=self.failed.ended_at + by_s)
        return msgspec.structs.replace(self, ended_at=self.ended_at + by_s, failed=failed)

    def note(self) -> dict[str, Any]:
        """What the log says of it."""
        said: dict[str, Any] = {"task": self.task} if self.task else {}
        if self.failed is not None:
            said |= {"error_type": self.failed.error_type, "error": self.failed.error}
        if self.what in ("retry", "deferred"):
            said["delay_s"] = round(self.delay_s, 3)
        if self.reason:
            said["reason"] = self.reason
        return said


def encode_result(result: Any) -> bytes:
    """A result as JSON. Raises TypeError when it is not JSON."""
    try:
        return msgspec.json.encode(result)
    except (ValueError, RecursionError) as error:  # text that UTF-8 cannot hold, a list that holds itself
        raise TypeError(str(error)) from error
