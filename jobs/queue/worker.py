"""The workers that the stock `rq worker` command loads: claim by Lua, leases with fences, never gone because of Redis.

`IoWorker` is for jobs that wait: one process, many jobs at once on an event loop and on threads. `CpuWorker` is for jobs that
compute, or must not harm each other: a parent and forked children. Both are this shell around an engine (engine.py) and an
executor; `rq info`, rq-dashboard, `rq suspend` and RQ's worker commands see an ordinary worker.
"""

import gc
import logging
import os
import random
import signal
import sys
import threading
import uuid
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import redis
from rq.serializers import JSONSerializer
from rq.utils import now as rq_now
from rq.worker import BaseWorker, DequeueStrategy

from jobs import connections, crash_points, log
from jobs.arrival import STOPS
from jobs.queue import canvas as _canvas  # noqa: F401  its chunk task is on every worker's allow-list
from jobs.queue import catalogue, limits
from jobs.queue.cpu_executor import CpuExecutor
from jobs.queue.drain import Drain
from jobs.queue.engine import Engine
from jobs.queue.executor import Executor
from jobs.queue.io_executor import IoExecutor
from jobs.queue.job import JsonJob
from jobs.queue.pools import pool_name
from jobs.queue.registration import Registration
from jobs.queue.surroundings import Bounds, Surroundings
from jobs.queue.task import REGISTRY
from jobs.setting_values import Range
from jobs.settings import current

TIMEOUT_S = 1.5
"""Less than a lease lasts: the engine looks after jobs again and repeats what it asked."""
logger = log.get("worker")


class Worker(BaseWorker):
    """What both workers have in common; each says how its jobs are run."""

    job_class = JsonJob

    def __init__(self, queues: Any, name: str | None = None, **options: Any) -> None:
        names = [queue if isinstance(queue, str) else queue.name for queue in ([queues] if isinstance(queues, str) else queues)]
        options.update(serializer=JSONSerializer, job_class=JsonJob)
        super().__init__(names, name or f"{pool_name(names)}-{os.getpid()}-{uuid.uuid4().hex[:6]}", **options)
        self._settings = current()

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        return connections.tuned(connection, retries=0, timeout_s=TIMEOUT_S)

    def _set_ip_address(self, connection: redis.Redis) -> None:
        self.ip_address = "unknown"  # RQ asks CLIENT LIST at every start; nobody reads the answer

    def work(
        self,
        burst: bool = False,
        max_jobs: int | None = None,
        max_idle_time: int | None = None,
        dequeue_strategy: DequeueStrategy | None = None,
        **_options: Any,
    ) -> bool:
        """Claims and runs jobs until a signal or command comes, or as far as the options go; whether there were any."""
        self.birth_date = self.last_heartbeat = rq_now()
        drain = Drain(self._settings.drain_s)
        drain.install()
        executor, within = self._executor(lambda: engine.forget_connections())
        fields = {**self.serialize(), "kind": executor.kind}
        registration = Registration(self.name, self.queue_names(), fields)
        around = Surroundings(
            self.connection,
            self.name,
            self.queue_names(),
            executor,
            registration,
            within,
            drain,
            self._settings.lease_s,
            _order(dequeue_strategy),
            _greet,
        )
        engine = Engine(around, Bounds(burst, max_jobs, max_idle_time))
        gc.collect()
        gc.freeze()  # what is imported stays: no collection walks through it again, nor makes a child copy its pages
        try:
            claimed = executor.serve(engine.run)
        finally:
            if engine.reaches_redis:
                self._leave(registration)
            logger.info("worker stopped", worker=self.name)
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # one that comes now is for the successor
        if engine.restarts and not drain.signalled:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  no shell is wanted
        _end(at_once=not executor.clean)
        return claimed > 0

    @abstractmethod
    def _executor(self, on_fork: Callable[[], None]) -> tuple[Executor, Range]:
        """What runs the jobs, and how many at once. `on_fork` is for a child: it closes the engine's sockets."""

    def _leave(self, registration: Registration) -> None:
        try:
            crash_points.reach("worker.leaving")
            registration.leave(self.connection)
        except redis.exceptions.RedisError as error:
            logger.warning("not signed off, the entry will expire", error=str(error))


class IoWorker(Worker):
    """One process: `async def` tasks on one loop, blocking functions on threads, up to hundreds of jobs at once."""

    def _executor(self, on_fork: Callable[[], None]) -> tuple[Executor, Range]:
        return IoExecutor(), self._settings.io_slots


class CpuWorker(Worker):
    """A parent that runs no job, and forked children that run one at a time."""

    def _executor(self, on_fork: Callable[[], None]) -> tuple[Executor, Range]:
        settings = self._settings
        executor = CpuExecutor(max_jobs=settings.child_max_jobs, max_memory_mb=settings.child_max_memory_mb, on_fork=on_fork)
        return executor, settings.cpu_children


def _greet(client: redis.Redis) -> None:
    catalogue.publish(client)
    limits.publish(client, REGISTRY.values())


def _end(*, at_once: bool) -> None:
    """Ends the process, also when something that a job has started would keep it: its platform's patience is short."""
    if at_once or any(not thread.daemon and thread is not threading.current_thread() for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def _order(strategy: DequeueStrategy | None) -> Callable[[Sequence[str]], Sequence[str]]:
    """How a claim goes through the queues: by priority, in turn, or at random."""
    turn = 0

    def in_turn(queues: Sequence[str]) -> Sequence[str]:
        nonlocal turn
        turn = (turn + 1) % len(queues)
        return [*queues[turn:], *queues[:turn]]

    match strategy:
        case DequeueStrategy.ROUND_ROBIN:
            return in_turn
        case DequeueStrategy.RANDOM:
            return lambda queues: random.sample(queues, len(queues))
    return lambda queues: queues
