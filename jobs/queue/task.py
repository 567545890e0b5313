"""Tasks: functions that may run as jobs, declared with `@task`, known by name on the allow-list.

A worker runs only what is registered here; a program that enqueues needs the declaration or goes through
the HTTP API. The decorated name is a `Task`: calling it runs the function, as a stock worker does.
"""

import inspect
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from jobs.errors import InvalidField, UnknownTask
from jobs.queue.backoff import Backoff
from jobs.queue.hooks import Hooks
from jobs.queue.job import JOB_ID, Call, JobSpec, spec

NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
DEFAULT_TIME_LIMIT_S = 180.0
DEFAULT_RESULT_TTL_S = 500


Policy = Backoff | Callable[[], Backoff]
"""A retry policy, or a function that gives it, for one that stands in the settings: importing a task reads no environment."""


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
