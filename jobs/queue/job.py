"""A job as RQ stores it: JSON all the way, never pickle.

`JobSpec` is a job that does not exist yet: its id, its queue and RQ's hash fields as one JSON
array, ready to travel into a script that creates it together with the state it belongs to.
The call itself is kept uncompressed, which RQ reads as well; what RQ writes itself is compressed (rq 2.12.0 job.py `to_dict`).
"""

import base64
import functools
import hashlib
import itertools
import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from rq.job import Job
from rq.serializers import JSONSerializer

JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
MAX_DESCRIPTION = 60
"""Values of up to 64 bytes keep a small hash compact in Redis."""
CANCELLED_TTL_S = 86_400
"""How long a job that was cancelled, or expired, is kept for its readers."""
ZLIB = b"x"
"""The first byte that zlib writes; a JSON call begins with a bracket."""
MAX_DATA_BYTES = 64 * 1_048_576
JSON = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
"""What checks the arguments of a call also writes them: two encoders differ in what they take."""


class JsonJob(Job):
    """RQ's Job with the JSON serializer, whatever the caller asks for."""

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:
        super().__init__(id=id, connection=connection, serializer=JSONSerializer)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job to be created; `flat` is its hash: field, value, field, value, ...

    `lock` is the key that a unique job must get; `lasts` says until when it has it: `done`, or seconds.
    """

    id: str
    queue: str
    flat: tuple[str, ...]
    lock: str = ""
    lasts: str = ""

    @property
    def fields(self) -> str:
        """The hash as a JSON array: how the job travels into a script that creates it together with a state."""
        return JSON.encode(self.flat)


@dataclass(frozen=True, slots=True)
class Call:
    """What a job calls: the import path of the function and its arguments."""

    path: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def encode(self) -> bytes:
        """RQ's `data` field: [function, instance, args, kwargs]."""
        return JSON.encode([self.path, None, self.args, self.kwargs]).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Call":
        """Reads RQ's `data` field. Raises ValueError when it is anything but a JSON call of a function."""
        try:
            path, instance, args, kwargs = msgspec.json.decode(_inflated(data), type=tuple[str, None, list[Any], dict[str, Any]])
        except (msgspec.DecodeError, ValueError, RecursionError, zlib.error) as error:
            raise ValueError(f"the job's data is not a JSON call: {error}") from None
        del instance
        return cls(path, tuple(args), kwargs)


def _inflated(data: bytes) -> bytes:
    """RQ compresses the data of the jobs that it writes itself (`enqueue`, `requeue`, a stock worker's retry)."""
    if not data.startswith(ZLIB):
        return data
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(data, MAX_DATA_BYTES)
    if inflater.unconsumed_tail:
        raise ValueError(f"it holds more than {MAX_DATA_BYTES} bytes")
    return inflated


def flattened(fields: Mapping[str, str]) -> tuple[str, ...]:
    """A hash as Redis takes it."""
    return tuple(itertools.chain.from_iterable(fields.items()))


def new_id() -> str:
    """A job's id: 20 random letters and digits. Shorter than a UUID: a waiting job holds its id twice, a finished one thrice."""
    return base64.b64encode(os.urandom(15), altchars=b"xy").decode()


def rq_time(at: float) -> str:
    """An instant as RQ writes it: 2026-11-21T03:04:05.123456Z."""
    second = math.floor(at)
    return f"{_second(second)}.{math.floor((at - second) * 1_000_000):06d}Z"


@functools.lru_cache(maxsize=1)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def describe(task_name: str, call: Call) -> str:
    """The call as text, in short: what RQ's tools show."""
    parts = [repr(value) if type(value) is int else json.dumps(value) for value in call.args]
    parts += [f"{key}={json.dumps(value)}" for key, value in call.kwargs.items()]
    text = f"{task_name}({', '.join(parts)})"
    return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"


def unique_id(task_name: str, unique_key: str) -> str:
    """The id of the one job of a task that a sender names by a key of its own."""
    return "unique-" + hashlib.sha256(f"{task_name}\n{unique_key}".encode()).hexdigest()[:32]
