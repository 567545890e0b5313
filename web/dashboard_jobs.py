"""What rq-dashboard reads: JSON only, by reading commands only, and nothing that is broken stops a page.

rq-dashboard 0.9.0 asks for jobs with RQ's own classes, whose default is pickle, and RQ's readers
write on the way (a dangling id is removed from its queue, a dead worker from the set). These
classes take their places in `rq_dashboard.web`. What cannot be read is shown as "not readable".
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import redis
from rq import Queue, Worker, registry
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer

from jobs import keys
from jobs.queue.job import JOB_ID, Call, JsonJob

BROKEN = (
    ArithmeticError,
    AssertionError,  # rq 2.12.0 utils.py parse_timeout
    AttributeError,
    DeserializationError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    zlib.error,
)
"""What RQ's parsers raise on a planted or damaged value."""

UNREADABLE = "not readable"

READING = frozenset({"EXISTS", "HGET", "HGETALL", "LLEN", "LRANGE", "SMEMBERS", "XREVRANGE", "ZCARD", "ZRANGE"})

REGISTRIES: dict[str, type[registry.BaseRegistry]] = {
    "scheduled": registry.ScheduledJobRegistry,
    "deferred": registry.DeferredJobRegistry,
    "started": registry.StartedJobRegistry,
    "finished": registry.FinishedJobRegistry,
    "failed": registry.FailedJobRegistry,
    "canceled": registry.CanceledJobRegistry,
}


class WriteRefused(Exception):
    """Raised when a page of rq-dashboard would have written to Redis."""


class ReadingRedis(redis.Redis):
    """A client on the pool of another one that sends reading commands and no others."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """`Any`: as redis-py declares it."""
        if args[0] not in READING:
            raise WriteRefused(str(args[0]))
        try:
            return super().execute_command(*args, **options)
        except redis.exceptions.ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                raise ValueError("the key holds another type") from error
            raise

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:
        """Refused: a pipeline would go around `execute_command`."""
        raise WriteRefused("MULTI")


class ShownJob(JsonJob):
    """A job to look at. Every value that cannot be read is replaced by a text that says so."""

    broken = ""

    @classmethod
    def fetch(cls, id: str, connection: redis.Redis | None = None, serializer: Any = None) -> ShownJob:
        """The job, readable or not. Raises NoSuchJobError when there is none."""
        job_id = id.partition(":")[0]
        if not JOB_ID.fullmatch(job_id):
            raise NoSuchJobError(f"No such job: {id!r}")
        return cls.shown(job_id, connection)

    @classmethod
    def shown(cls, job_id: str, connection: redis.Redis | None) -> ShownJob:
        """The job behind an id that was found in Redis, whatever it looks like. Raises NoSuchJobError as `fetch` does."""
        job = cls(connection=connection)
        job._id = job_id  # past RQ's check: a planted id must be seen too
        job.created_at, job._status = None, UNREADABLE  # not RQ's "now" and "created"
        try:
            fields: Mapping[Any, Any] = job.connection.hgetall(job.key)
        except ValueError as error:
            job._break(error)
            return job
        if not fields:
            raise NoSuchJobError(f"No such job: {job_id}")
        try:
            job.restore(fields)
            Call.decode(job.data)
            job.get_call_string()
        except (*BROKEN, NoSuchJobError) as error:
            job._break(error)
        return job

    def get_status(self, refresh: bool = True) -> JobStatus:
        """The status that came with the hash."""
        return self._status

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        """The meta that came with the hash; RQ leaves bytes under "unserialized" when the serializer refused them."""
        if not isinstance(self.meta, dict) or isinstance(self.meta.get("unserialized"), bytes):
            return {UNREADABLE: "meta is not a JSON object"}
        return self.meta

    def get_call_string(self) -> str | None:
        """The call, as the list of workers shows it."""
        return self.broken or super().get_call_string()

    def latest_result(self, timeout: int = 0) -> Result | None:
        """The newest entry of the result stream."""
        try:
            return super().latest_result()
        except BROKEN as error:
            return Result(self.id, Result.Type.SUCCESSFUL, self.connection, id="0-0", return_value=_reason(error))

    @property
    def dependency_ids(self) -> list[bytes]:  # rq says str, rq_dashboard.web decodes each
        """Ids as the UTF-8 that rq-dashboard 0.9.0 expects; RQ itself gives text since 2.0."""
        try:
            found = self.connection.smembers(self.dependencies_key)
        except ValueError:
            return [UNREADABLE.encode()]
        return sorted(_text(job_id).encode() for job_id in found)

    def _break(self, error: Exception) -> None:
        self.broken = self.description = _reason(error)


class ShownQueue(Queue):
    """A queue to look at."""

    job_class = ShownJob

    def __init__(self, name: str = "default", connection: redis.Redis | None = None, **ignored: Any) -> None:
        super().__init__(name, connection=connection, job_class=ShownJob, serializer=JSONSerializer)

    @classmethod
    def all(cls, connection: redis.Redis, *ignored: Any, **also_ignored: Any) -> list[Queue]:
        """The queues whose key is one."""
        prefix = cls.redis_queue_namespace_prefix
        names = sorted(_text(key).partition(prefix) for key in connection.smembers(keys.QUEUES))
        return [cls(name, connection) for before, found, name in names if found and not before and name]

    @property
    def count(self) -> int | str:  # rq-dashboard only prints it
        """Jobs in the list."""
        try:
            return int(super().count)
        except ValueError:
            return UNREADABLE


class ShownWorker(Worker):
    """A worker to look at."""

    job_class = ShownJob
    queue_class: type[Queue] = ShownQueue

    @classmethod
    def all(cls, connection: redis.Redis | None = None, *ignored: Any, **also_ignored: Any) -> list[Worker]:
        """The workers whose hash has not expired."""
        if connection is None:
            raise TypeError("a connection is needed")
        found: list[Worker] = []
        for key in sorted(map(_text, connection.smembers(keys.WORKERS))):
            if connection.exists(key):
                name = key.removeprefix(cls.redis_worker_namespace_prefix)
                worker = cls([], name, connection=connection, prepare_for_work=False, serializer=JSONSerializer)
                worker.refresh()
                found.append(worker)
        return found

    def refresh(self) -> None:
        """Reads the hash."""
        try:
            super().refresh()
        except BROKEN:
            self._state = UNREADABLE

    def get_current_job(self) -> ShownJob | None:
        """The job that the worker says it runs; none when that job is gone."""
        try:
            job_id = self.get_current_job_id()
            return ShownJob.shown(job_id, self.connection) if job_id else None
        except (*BROKEN, NoSuchJobError):
            return None

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        """RQ raises the pool's socket timeout to 415 s here, for its BLPOP; the pool is the web's, so it stays as it is."""
        return connection


def shown_registry(kind: type[registry.BaseRegistry]) -> type[registry.BaseRegistry]:
    """The registry class with JSON jobs, which says so when its key is no sorted set."""

    class ShownRegistry(kind):
        def __init__(self, name: str = "default", connection: redis.Redis | None = None, **ignored: Any) -> None:
            super().__init__(name, connection=connection, job_class=ShownJob, serializer=JSONSerializer)

        def get_job_count(self, cleanup: bool = False) -> int | str:
            try:
                return int(super().get_job_count(cleanup=False))
            except ValueError:
                return UNREADABLE

    return ShownRegistry


def page_of_jobs(
    queue_name: str, registry_name: str, offset: int, per_page: int, order: str, connection: redis.Redis
) -> tuple[int, list[ShownJob]]:
    """How many jobs the queue or registry holds, and those of one page (rq-dashboard's own count goes wrong after the first)."""
    queued = registry_name == "queued"
    key = keys.queue(queue_name) if queued else REGISTRIES[registry_name].key_template.format(queue_name)
    try:
        total = int(connection.llen(key) if queued else connection.zcard(key))
        first = offset if order == "asc" else max(0, total - offset - per_page)
        last = (offset + per_page if order == "asc" else total - offset) - 1
        read = connection.lrange if queued else connection.zrange
        entries = [_text(entry) for entry in read(key, first, last)] if last >= first else []
    except ValueError as error:
        job = ShownJob(connection=connection)
        job._id = UNREADABLE
        job._break(error)
        return 1, [job]
    if order != "asc":
        entries.reverse()
    jobs = []
    for entry in entries:
        try:
            jobs.append(ShownJob.shown(entry.partition(":")[0], connection))  # a started job stands there with its execution
        except NoSuchJobError:
            continue
    return total, jobs


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _reason(error: Exception) -> str:
    why = "the job has no data" if isinstance(error, NoSuchJobError) else str(error) or type(error).__name__
    return f"{UNREADABLE}: {why[:200]}"
