"""Tasks: functions that may run as jobs, declared with `@task`, known by name on the allow-list.

A worker runs only what is registered here; a program that enqueues needs the declaration or goes through
the HTTP API. The decorated name is a `Task`: calling it runs the function, as a stock worker does.
"""

import inspect
import re
import time
import uuid
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import redis
import redis.asyncio
from rq import get_current_job

from jobs import keys
from jobs.errors import InvalidField, UnknownTask
from jobs.queue.backoff import Backoff
from jobs.queue.job import JOB_ID, Call, JobSpec, spec
from jobs.queue.script import Script, beside

ENQUEUE = beside(__file__, "enqueue")
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
DEFAULT_TIME_LIMIT_S = 180.0
DEFAULT_RESULT_TTL_S = 500


@dataclass(frozen=True, slots=True)
class Effect:
    """A script that runs in the same MULTI as the write that ends or moves a job.

    The queue appends the guard: a zset and a member that is there only if the job's own write will go through.
    """

    script: Script
    keys: Sequence[str]
    args: Sequence[str | int | float]


@dataclass(frozen=True, slots=True)
class Ending:
    """What a hook is told about a failed attempt: `error` is its message, `ended_at` Unix seconds."""

    job_id: str
    args: tuple[Any, ...]
    attempt: int
    worker: str
    error: str
    ended_at: float


class Hooks(Protocol):
    """How the state that a job belongs to follows the job's fate. Every effect must be safe to run twice."""

    def retried(self, ending: Ending) -> list[Effect]:
        """The attempt failed and another one will follow."""

    def died(self, ending: Ending) -> list[Effect]:
        """The job becomes a dead letter."""

    def redriven(self, job_id: str, args: tuple[Any, ...], now: float) -> list[Effect]:
        """The dead letter goes back to its queue."""

    def discarded(self, job_id: str, args: tuple[Any, ...], now: float) -> list[Effect]:
        """The dead letter is deleted for good."""


@dataclass(frozen=True, slots=True)
class RunningJob:
    """The job that runs in this context. `attempt` counts from 1; a crash of a worker is not an attempt."""

    id: str
    queue: str
    attempt: int
    worker: str


Policy = Backoff | Callable[[], Backoff]
"""A retry policy, or a function that gives it, for one that stands in the settings: importing a task reads no environment."""

_running: ContextVar[RunningJob | None] = ContextVar("running_job", default=None)


def running_job() -> RunningJob:
    """The job that is being run, by our worker or by a stock one. Raises LookupError outside a job."""
    job = _running.get()
    if job is not None:
        return job
    stock = get_current_job()
    if stock is None:
        raise LookupError("no job runs here")
    failures = stock.connection.hget(keys.job(stock.id), "failures")
    return RunningJob(stock.id, stock.origin, int(failures or 0) + 1, stock.worker_name or "stock")


def set_running_job(job: RunningJob | None) -> None:
    """Said by a worker before and after it runs a job."""
    _running.set(job)


class Task:
    """A registered function and how its jobs are run."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        queue: str,
        retry: Policy,
        time_limit_s: float,
        result_ttl_s: int,
        hooks: Hooks | None,
        owned: bool,
    ) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"task name {name!r}: lower-case words joined by dots are needed")
        self.function = function
        self.name = name
        self.path = f"{function.__module__}.{function.__qualname__}"
        self.queue = queue
        self._retry = retry
        self.time_limit_s = time_limit_s
        self.result_ttl_s = result_ttl_s
        self.hooks = hooks
        self.owned = owned or hooks is not None
        self.signature = inspect.signature(function)
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def retry(self) -> Backoff:
        """The policy that decides what follows a failed attempt."""
        return self._retry if isinstance(self._retry, Backoff) else self._retry()

    def arguments(self, call: Call) -> tuple[Any, ...] | None:
        """The call's arguments in the order in which the function names them; None when it cannot take them."""
        try:
            return self.signature.bind(*call.args, **call.kwargs).args
        except TypeError:
            return None

    def call(self, *args: Any, **kwargs: Any) -> Call:
        """A call of this task. Raises InvalidField for arguments that it cannot take or that are not JSON."""
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidField("args", f"{self.name}{self.signature}: {error}") from None
        call = Call(self.path, args, kwargs)
        try:
            call.encode()
        except (TypeError, ValueError) as error:
            raise InvalidField("args", f"{self.name}: arguments must be JSON: {error}") from None
        return call

    def spec(
        self, *args: Any, job_id: str | None = None, now: float | None = None, queue: str | None = None, **kwargs: Any
    ) -> JobSpec:
        """A job of this task that does not exist yet. Raises InvalidField when the call cannot work."""
        call = self.call(*args, **kwargs)
        if job_id is not None and not JOB_ID.fullmatch(job_id):
            raise InvalidField("job_id", "only letters, digits, _ and -, at most 128")
        return spec(
            job_id or uuid.uuid4().hex,
            queue or self.queue,
            call,
            task_name=self.name,
            now=time.time() if now is None else now,
            time_limit_s=self.time_limit_s,
            result_ttl_s=self.result_ttl_s,
            owned=self.owned,
        )


REGISTRY: dict[str, Task] = {}
"""The allow-list: task name -> task."""
_BY_PATH: dict[str, Task] = {}


def task(
    *,
    name: str,
    queue: str = "default",
    retry: Policy | None = None,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    result_ttl_s: int = DEFAULT_RESULT_TTL_S,
    hooks: Hooks | None = None,
    owned: bool = False,
) -> Callable[[Callable[..., Any]], Task]:
    """Registers a function as a task. Sync and `async def` functions both work; arguments and results must be JSON."""

    def register(function: Callable[..., Any]) -> Task:
        made = Task(
            function,
            name=name,
            queue=queue,
            retry=retry or Backoff(),
            time_limit_s=time_limit_s,
            result_ttl_s=result_ttl_s,
            hooks=hooks,
            owned=owned,
        )
        if REGISTRY.setdefault(name, made) is not made and REGISTRY[name].path != made.path:
            raise ValueError(f"task {name!r} is declared twice: {REGISTRY[name].path} and {made.path}")
        REGISTRY[name] = made
        _BY_PATH[made.path] = made
        return made

    return register


def by_name(name: str) -> Task:
    """The task of that name. Raises UnknownTask."""
    try:
        return REGISTRY[name]
    except KeyError:
        raise UnknownTask(name) from None


def by_path(path: str) -> Task:
    """The task whose jobs carry that import path. Raises UnknownTask."""
    try:
        return _BY_PATH[path]
    except KeyError:
        raise UnknownTask(path) from None


def enqueue(client: redis.Redis, job: JobSpec, *, now: float, due_at: float | None = None) -> bool:
    """Creates the job in one round trip, on its queue or, with `due_at`, held in Redis until then.

    False when a job of that id exists already: a call whose reply was lost can be repeated.
    """
    return bool(ENQUEUE(client, *_enqueue_call(job, now, due_at)))


async def enqueue_async(client: redis.asyncio.Redis, job: JobSpec, *, now: float, due_at: float | None = None) -> bool:
    """The async twin of `enqueue`."""
    return bool(await ENQUEUE.run(client, *_enqueue_call(job, now, due_at)))


def _enqueue_call(job: JobSpec, now: float, due_at: float | None) -> tuple[list[str], list[str]]:
    return [keys.SCHEDULED_JOBS], [job.id, job.queue, job.fields, repr(now), "" if due_at is None else repr(due_at)]
