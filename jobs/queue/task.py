"""Tasks: functions that may run as jobs, declared with `@task`, known by name on the allow-list.

A worker runs only what is registered here. The decorated name is a `Task`: calling it runs the function, as a stock worker
does; `delay` and its like (calling.py) make a job of the call.
"""

import functools
import hashlib
import inspect
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jobs import keys, trace
from jobs.errors import InvalidField, UnknownTask
from jobs.queue.arguments import check_json, is_plain, not_json, plain, positional
from jobs.queue.backoff import Backoff
from jobs.queue.calling import Calling
from jobs.queue.hooks import Hooks
from jobs.queue.job import JOB_ID, Call, JobSpec, describe, flattened, new_id, rq_time
from jobs.queue.limits import Rate, parse_rate
from jobs.queue.options import DEFAULT_TIME_LIMIT_S, Options, Priority, check_queue
from jobs.queue.routing import routed
from jobs.settings import Settings, current

NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
DEFAULT_QUEUE = "default"
NEVER_EXPIRES = -1
NEVER_AT = 253_402_300_800.0
"""The year 10000."""
STOCK_RETRIES = 3
STOCK_RETRY_DELAY_S = 1
"""A stock worker knows no crash counter: it may rerun a job this often after its horse was killed."""

Policy = Backoff | Callable[[], Backoff]
"""A retry policy, or a function that gives it, for one that stands in the settings: importing a task reads no environment."""


class Task(Calling):
    """A registered function and how its jobs are called and run."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        queue: str = DEFAULT_QUEUE,
        options: Options,
        retry: Policy,
        rate_limit: str | None = None,
        max_concurrent: int | None = None,
        hooks: Hooks | None = None,
        owned: bool = False,
        path: str = "",
        signature: inspect.Signature | None = None,
        limited: bool = False,
    ) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"task name {name!r}: lower-case words joined by dots are needed")
        if max_concurrent is not None and (max_concurrent < 1 or max_concurrent != int(max_concurrent)):
            raise ValueError(f"task {name!r}: max_concurrent must be a whole number of at least 1")
        super().__init__(self, options)
        self.function = function
        self._declared_queue = queue
        self.name = name
        self.path = path or f"{function.__module__}.{function.__qualname__}"
        self._retry = retry
        self.rate_limit: Rate | None = None if rate_limit is None else parse_rate(rate_limit)
        self.max_concurrent = max_concurrent
        self.limited = limited or self.rate_limit is not None or max_concurrent is not None
        self.hooks = hooks
        self.owned = owned or hooks is not None
        self.signature = signature or inspect.signature(function)
        self._positional = positional(self.signature)
        self._template: tuple[Settings, Options, str, tuple[str, ...]] | None = None
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def retry(self) -> Backoff:
        """The policy that decides what follows a failed attempt."""
        return self._retry if isinstance(self._retry, Backoff) else self._retry()

    @property
    def queue(self) -> str:
        """The queue of its jobs, unless a call names another one: as the settings route it, or as it was declared."""
        return routed(self.name, self._declared_queue)

    def arguments(self, call: Call) -> tuple[Any, ...] | None:
        """The call's arguments in the order in which the function names them; None when it cannot take them."""
        try:
            return self.signature.bind(*call.args, **call.kwargs).args
        except TypeError:
            return None

    def call(self, *args: Any, **kwargs: Any) -> Call:
        """A call of this task. Raises InvalidField for arguments that it cannot take or that are not JSON."""
        if not kwargs and len(args) in self._positional and all(map(is_plain, args)):
            return Call(self.path, args, kwargs)  # what the rest would find out, in a tenth of its time
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidField("args", f"{self.name}{self.signature}: {error}") from None
        try:
            check_json([*args, *kwargs, *kwargs.values()])
        except (TypeError, ValueError, RecursionError) as error:
            culprit, reason = next(not_json(bound.arguments), ("args", error))
            raise InvalidField("args", f"{self.name}: argument {culprit!r} must be JSON: {reason}") from None
        return Call(self.path, args, kwargs)

    def spec(
        self, *args: Any, job_id: str | None = None, now: float | None = None, queue: str | None = None, **kwargs: Any
    ) -> JobSpec:
        """A job of this task that does not exist yet. Raises InvalidField when the call cannot work."""
        options = self.defaults if queue is None else replace(self.defaults, queue=queue)
        return self.build(options, args, kwargs, job_id=job_id, now=now)

    def build(
        self,
        options: Options,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        job_id: str | None = None,
        now: float | None = None,
        due_at: float | None = None,
    ) -> JobSpec:
        """`spec` with options of this call, and the instant (Unix seconds) until which the job will be held."""
        call = self.call(*args, **kwargs)
        if job_id is not None and not JOB_ID.fullmatch(job_id):
            raise InvalidField("job_id", "only letters, digits, _ and -, at most 128")
        if due_at is not None and not abs(due_at) < NEVER_AT:
            raise InvalidField("due_at", f"a number of seconds is needed, not {due_at!r}")
        now = time.time() if now is None else now
        queue, common = self._template_for(options)
        own: tuple[str, ...] = (
            "created_at",
            rq_time(now),
            "data",
            call.encode().decode(),
            "description",
            describe(self.name, call),
        )
        if options.expires_s is not None:
            own += ("expires_at", repr(max(now, due_at or now) + options.expires_s))
        lock, lasts = self._lock(options, call)
        if lasts == "done":
            own += ("unique", lock)
        if trace.current():
            own += ("trace", trace.current())
        return JobSpec(job_id or new_id(), queue, own + common, lock, lasts)

    def _template_for(self, options: Options) -> tuple[str, tuple[str, ...]]:
        """The queue and the fields of all jobs of this task with these options; kept for the next call."""
        settings = current()
        kept = self._template
        if kept is None or kept[0] is not settings or kept[1] is not options:
            queue = options.placed_on(options.queue or self.queue)
            kept = self._template = (settings, options, queue, self._common_fields(options, queue))
        return kept[2:]

    def _common_fields(self, options: Options, queue: str) -> tuple[str, ...]:
        fields = {
            "origin": queue,
            "task": self.name,
            "timeout": str(max(1, round(options.time_limit_s))),
            "result_ttl": str(options.keeps_s()),
            "failure_ttl": str(NEVER_EXPIRES),
            "failure_callback_name": "jobs.queue.stock.on_failure",
            "retries_left": str(STOCK_RETRIES),
            "retry_intervals": f"[{STOCK_RETRY_DELAY_S}]",
        }
        if options.time_limit_s != int(options.time_limit_s):
            fields["time_limit_s"] = repr(options.time_limit_s)
        if options.soft_time_limit_s is not None:
            fields["soft_time_limit_s"] = repr(options.soft_time_limit_s)
        if options.retry is not None:
            fields["retry"] = options.retry.encode()
        if self.limited:
            fields["limited"] = self.name
        if self.owned:
            fields["owned"] = "1"
        return flattened(fields)

    def _lock(self, options: Options, call: Call) -> tuple[str, str]:
        if not options.unique:
            return "", ""
        bound = self.signature.bind(*call.args, **call.kwargs)
        bound.apply_defaults()
        named = json.dumps({name: plain(value) for name, value in bound.arguments.items()}, sort_keys=True)
        digest = hashlib.sha256(f"{self.name}\n{named}".encode()).hexdigest()[:32]
        return keys.unique(digest), "done" if options.unique is True else repr(float(options.unique))


REGISTRY: dict[str, Task] = {}
"""The allow-list: task name -> task."""
_BY_PATH: dict[str, Task] = {}


def task(
    *,
    name: str,
    queue: str = DEFAULT_QUEUE,
    retry: Policy | None = None,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    soft_time_limit_s: float | None = None,
    rate_limit: str | None = None,
    max_concurrent: int | None = None,
    unique: bool | float = False,
    priority: Priority = "normal",
    ignore_result: bool = False,
    result_ttl_s: int | None = None,
    expires_s: float | None = None,
    hooks: Hooks | None = None,
    owned: bool = False,
) -> Callable[[Callable[..., Any]], Task]:
    """Registers a function as a task. Sync and `async def` functions both work; arguments and results must be JSON.

    Options are those of `Options`; `rate_limit` ("50/s") and `max_concurrent` hold across all workers. An `owned` job belongs to
    a state (an order, a buffer): it is never purged or cancelled alone. Raises ValueError for what cannot be.
    """
    try:
        check_queue(queue)
        options = Options(
            priority=priority,
            time_limit_s=time_limit_s,
            soft_time_limit_s=soft_time_limit_s,
            result_ttl_s=result_ttl_s,
            ignore_result=ignore_result,
            expires_s=expires_s,
            unique=unique,
        )
        options.placed_on(queue)
    except InvalidField as error:
        raise ValueError(f"task {name!r}: {error}") from None

    made = functools.partial(
        Task,
        name=name,
        queue=queue,
        options=options,
        retry=retry or Backoff(),
        rate_limit=rate_limit,
        max_concurrent=max_concurrent,
        hooks=hooks,
        owned=owned,
    )
    return lambda function: _registered(made(function))


def _registered(made: Task) -> Task:
    if REGISTRY.setdefault(made.name, made) is not made and REGISTRY[made.name].path != made.path:
        raise ValueError(f"task {made.name!r} is declared twice: {REGISTRY[made.name].path} and {made.path}")
    REGISTRY[made.name] = made
    _BY_PATH[made.path] = made
    return made


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
