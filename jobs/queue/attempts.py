"""The history of a job's attempts: what each leaves behind, bounded."""

import base64
import hashlib
import re
import traceback
import zlib

import msgspec

KEPT = 20
MAX_MESSAGE = 500
MAX_TRACEBACK = 4_000
VARIABLE = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+", re.IGNORECASE)


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One failed attempt. Instants are Unix seconds; `attempt` counts from 1."""

    attempt: int
    started_at: float
    ended_at: float
    worker: str
    error_type: str
    error: str
    traceback: str = ""


def failed_attempt(attempt: int, started_at: float, ended_at: float, worker: str, error: BaseException) -> Attempt:
    """Describes a failed attempt, its message and traceback trimmed."""
    trace = _storable("".join(traceback.format_exception(error)))
    if len(trace) > MAX_TRACEBACK:
        trace = f"[{len(trace) - MAX_TRACEBACK} characters left out]\n{trace[-MAX_TRACEBACK:]}"
    return Attempt(attempt, started_at, ended_at, worker, type(error).__name__, message(error), trace)


def message(error: BaseException) -> str:
    """The error in one bounded line; its type when it says nothing."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  a task's own error class may be broken; its attempt is recorded all the same
        text = ""
    return " ".join(_storable(text).split())[:MAX_MESSAGE] or type(error).__name__


def _storable(text: str) -> str:
    """Text that UTF-8 can hold: file names that are no UTF-8 bring lone surrogates into messages."""
    return text.encode("utf-8", "backslashreplace").decode()


def append(history: bytes | str, attempt: Attempt) -> str:
    """The job's `attempts` field with one more. What cannot be read any more is dropped rather than in the way."""
    return msgspec.json.encode([*read(history), attempt][-KEPT:]).decode()


def read(history: bytes | str) -> list[Attempt]:
    """Reads the job's `attempts` field; empty when there is none."""
    if not history:
        return []
    try:
        return msgspec.json.decode(history, type=list[Attempt])
    except msgspec.MsgspecError:
        return []


def fingerprint(task_name: str, error_type: str, error: str) -> str:
    """Groups dead letters by task and error; numbers and ids in the message do not matter."""
    text = f"{task_name}\n{error_type}\n{VARIABLE.sub('#', error)}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def rq_exc_string(trace: str) -> str:
    """A traceback as RQ keeps it in a result stream (rq 2.12.0 results.py `serialize`)."""
    return base64.b64encode(zlib.compress(trace.encode())).decode()
