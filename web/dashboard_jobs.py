"""What rq-dashboard reads: JSON only, by reading commands only, and a job that is broken breaks no list.

rq-dashboard 0.9.0 asks for jobs with RQ's own classes, whose default is pickle, and RQ's readers write on the way
(a dead worker is taken out of the set). These take their places in `rq_dashboard.web`.
"""

import zlib
from contextlib import suppress
from typing import Any

import redis
from rq import Worker
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import JobStatus
from rq.results import Result

from jobs import keys
from jobs.queue.job import JsonJob

BROKEN = (AssertionError, AttributeError, DeserializationError, LookupError, RecursionError, TypeError, ValueError, zlib.error)
"""What RQ's parsers raise on a planted or damaged value."""
UNREADABLE = "not readable"

READING = frozenset({"EXISTS", "HGET", "HGETALL", "LLEN", "LRANGE", "SMEMBERS", "XREVRANGE", "ZCARD", "ZRANGE"})
PLACES = {
    "queued": keys.queue,
    "scheduled": keys.scheduled,
    "deferred": "rq:deferred:{}".format,
    "started": keys.wip,
    "finished": keys.finished,
    "failed": keys.failed,
    "canceled": keys.canceled,
}
"""Where rq-dashboard lists jobs: the queue, and RQ's registries by their names there."""


class ReadingRedis(redis.Redis):
    """A client on the pool of another one that sends reading commands; others are not sent and answered with None."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """`Any`: as redis-py declares it."""
        return super().execute_command(*args, **options) if args[0] in READING else None

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:
        """Refused: it would go around `execute_command`."""
        raise NotImplementedError("rq-dashboard only reads")


class ShownJob(JsonJob):
    """A job to look at. What cannot be read is a text that says so."""

    call = ""

    @classmethod
    def fetch(cls, id: str, connection: redis.Redis | None = None, serializer: Any = None) -> "ShownJob":
        """The job, readable or not. Raises NoSuchJobError when there is none."""
        job = cls(connection=connection)
        job._id = id  # past RQ's check: a planted id must be seen too
        job.created_at, job._status = None, UNREADABLE  # not RQ's "now" and "created"
        fields = job.connection.hgetall(job.key)
        if not fields:
            raise NoSuchJobError(f"No such job: {id}")
        try:
            job.restore(fields)
            job.call = JsonJob.get_call_string(job)
        except (*BROKEN, NoSuchJobError) as error:  # RQ's word for a hash without data
            job.call = job.description = _reason(error)
        return job

    def get_status(self, refresh: bool = True) -> JobStatus:
        """The status that came with the hash."""
        return self._status

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        """The meta that came with the hash; RQ leaves under "unserialized" what the serializer refused."""
        readable = isinstance(self.meta, dict) and "unserialized" not in self.meta
        return self.meta if readable else {UNREADABLE: "meta is not a JSON object"}

    def get_call_string(self) -> str:
        """The call, as the list of workers shows it."""
        return self.call

    def latest_result(self, timeout: int = 0) -> Result | None:
        """The newest entry of the result stream."""
        try:
            return super().latest_result()
        except BROKEN as error:
            return Result(self.id, Result.Type.SUCCESSFUL, self.connection, id="0-0", return_value=_reason(error))

    @property
    def dependency_ids(self) -> list[bytes]:
        """As bytes, which rq-dashboard 0.9.0 decodes; RQ itself gives text since 2.0."""
        return sorted(self.connection.smembers(self.dependencies_key))


class ShownWorker(Worker):
    """A worker to look at."""

    job_class = ShownJob

    def refresh(self) -> None:
        """Reads the hash, as far as it can be read."""
        with suppress(*BROKEN):
            super().refresh()

    def get_current_job(self) -> ShownJob | None:
        """The job that the worker says it runs; None when that job is gone."""
        try:
            job: ShownJob | None = super().get_current_job()
            return job
        except NoSuchJobError:
            return None

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        """RQ raises the pool's socket timeout to 415 s here, for its BLPOP; the pool is the web's, so it stays as it is."""
        return connection


def page_of_jobs(
    queue: str, place: str, offset: int, per_page: int, order: str, connection: redis.Redis
) -> tuple[int, list[ShownJob]]:
    """How many jobs the place holds, and those of one page; rq-dashboard's own pages are too long after the first."""
    key = PLACES[place](queue)
    count, read = (connection.llen, connection.lrange) if place == "queued" else (connection.zcard, connection.zrange)
    if order == "asc":
        entries = read(key, offset, offset + per_page - 1)
    else:
        entries = read(key, -offset - per_page, -offset - 1)[::-1]
    jobs = []
    for entry in entries:
        with suppress(NoSuchJobError):
            # A started job stands there with its execution.
            jobs.append(ShownJob.fetch(entry.decode(errors="replace").partition(":")[0], connection))
    return int(count(key)), jobs


def _reason(error: Exception) -> str:
    why = "the job has no data" if isinstance(error, NoSuchJobError) else str(error) or type(error).__name__
    return f"{UNREADABLE}: {why[:200]}"
