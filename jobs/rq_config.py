"""What the stock `rq worker` command reads: `RQ_CONFIG=jobs.rq_config rq worker picking`.

RQ 2.12 takes the URL from this module but the worker class and the serializer only from flags and other variables.
Loading this module therefore makes `CpuWorker` the command's default, whose jobs are JSON whatever the flags say;
`-w jobs.queue.worker.IoWorker` asks for the other one, `-w rq.Worker -S json` for a stock one.
"""

import functools
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click
import redis
import rq.cli.workers
from click.core import ParameterSource
from rq.cli.helpers import CliConfig
from rq.suspension import is_suspended

from jobs import arrival as _arrival  # noqa: F401  first: signals have a meaning from here on
from jobs import connections, crash_points, log
from jobs.errors import TurnstileError
from jobs.mall import tasks
from jobs.queue.worker import CpuWorker, IoWorker
from jobs.settings import current

WAIT_S = 1.0
OURS = tuple(f"{worker.__module__}.{worker.__qualname__}" for worker in (CpuWorker, IoWorker))
T = TypeVar("T")
JSON_NAMES = ("json", "rq.serializers.JSONSerializer")


def _fail(message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(2)


def _url() -> str:
    try:
        settings = current()
        log.configure(settings, process="worker")
        crash_points.arm(settings.crash_at)
        tasks.register(settings)
        return connections.redis_url(settings)
    except TurnstileError as error:
        _fail(str(error))


def _patiently(url: str, ask: Callable[..., T], *args: Any) -> T:
    """RQ's command exits when Redis is away at its start; a worker waits."""
    while True:
        try:
            return ask(*args)
        except redis.exceptions.AuthenticationError as error:
            _fail(f"Redis at {connections.shown_url(url)} refuses the password: {error}")
        except redis.exceptions.RedisError as error:
            log.get("worker").warning("waiting for Redis", url=connections.shown_url(url), error=str(error))
            time.sleep(WAIT_S)


def _load_our_worker(context: click.Context) -> None:
    if context.get_parameter_source("worker_class") is ParameterSource.DEFAULT:
        # A data descriptor: it wins over what the instance, made before this module was read, already holds.
        CliConfig.worker_class = property(lambda _self: CpuWorker, lambda _self, _value: None)
        return
    if context.params.get("worker_class") not in OURS and context.params.get("serializer") not in JSON_NAMES:
        _fail("Turnstile's jobs are JSON: run a stock worker with `-S json`, or leave out -w for Turnstile's own.")


REDIS_URL = _url()
_context = click.get_current_context(silent=True)
if _context is not None and _context.info_name == "worker":
    _load_our_worker(_context)
    # Before it starts a worker the command asks once more, through a connection of its own.
    rq.cli.workers.is_suspended = functools.partial(_patiently, REDIS_URL, is_suspended)
    _patiently(REDIS_URL, connections.connect(REDIS_URL).ping)
