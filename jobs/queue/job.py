"""A job as RQ stores it: JSON all the way, never pickle.

`JobSpec` is a job that does not exist yet: its id, its queue and RQ's hash fields as one JSON
array, ready to travel into a script that creates it together with the state it belongs to.
The call itself is kept uncompressed, which RQ reads as well; what RQ writes itself is compressed (rq 2.12.0 job.py `to_dict`).
"""

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from rq.job import Job
from rq.serializers import JSONSerializer

JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
QUEUE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NEVER_EXPIRES = -1
STOCK_RETRIES = 3
STOCK_RETRY_DELAY_S = 1
"""A stock worker knows no crash counter: it may rerun a job this often after its horse was killed."""
MAX_DESCRIPTION = 120
ZLIB = b"x"
"""The first byte that zlib writes; a JSON call begins with a bracket."""
MAX_DATA_BYTES = 64 * 1_048_576


class JsonJob(Job):
    """RQ's Job with the JSON serializer, whatever the caller asks for."""

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:
        super().__init__(id=id, connection=connection, serializer=JSONSerializer)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job to be created. `fields` is the JSON array [field, value, ...] of its hash."""

    id: str
    queue: str
    fields: str


@dataclass(frozen=True, slots=True)
class Call:
    """What a job calls: the import path of the function and its arguments."""

    path: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def encode(self) -> bytes:
        """RQ's `data` field: [function, instance, args, kwargs]."""
        return msgspec.json.encode([self.path, None, self.args, self.kwargs])

    @classmethod
    def decode(cls, data: bytes) -> "Call":
        """Reads RQ's `data` field. Raises ValueError when it is anything but a JSON call of a function."""
        try:
            path, instance, args, kwargs = msgspec.json.decode(_inflated(data), type=tuple[str, None, list[Any], dict[str, Any]])
        except (msgspec.DecodeError, ValueError, UnicodeDecodeError, zlib.error) as error:
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


def spec(
    job_id: str,
    queue: str,
    call: Call,
    *,
    task_name: str,
    now: float,
    time_limit_s: float,
    result_ttl_s: int,
    owned: bool,
) -> JobSpec:
    """Builds the hash of a new job. `owned` jobs belong to an order or a buffer: never purged or cancelled alone."""
    fields = {
        "created_at": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "data": call.encode().decode(),
        "task": task_name,
        "description": _describe(task_name, call.args, call.kwargs),
        "origin": queue,
        "status": "created",
        "timeout": str(max(1, round(time_limit_s))),
        "time_limit_s": repr(time_limit_s),
        "result_ttl": str(result_ttl_s),
        "failure_ttl": str(NEVER_EXPIRES),
        "failure_callback_name": "jobs.queue.stock.on_failure",
        "success_callback_name": "",
        "stopped_callback_name": "",
        "retries_left": str(STOCK_RETRIES),
        "retry_intervals": f"[{STOCK_RETRY_DELAY_S}]",
    }
    if owned:
        fields["owned"] = "1"
    return JobSpec(job_id, queue, json.dumps([part for pair in fields.items() for part in pair]))


def _describe(task_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    parts = [json.dumps(value, default=str) for value in args]
    parts += [f"{key}={json.dumps(value, default=str)}" for key, value in kwargs.items()]
    text = f"{task_name}({', '.join(parts)})"
    return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"
