"""Turnstile: `task.delay` and `task.enqueue_many`.

Workers: the stock `rq worker` command with our classes, acknowledging after the job, with a fence. Results are off, but for the
rows that keep them as RQ does by default, 500 s. An IoWorker is one process. A CpuWorker is a parent and its children: two
processes that run jobs are one worker with two children, or two with one.
"""

from typing import Any

from contenders import work

from jobs.queue.calling import Calling
from jobs.queue.samples import add
from jobs.queue.task import task

KEPT = "kept_"
FUNCTIONS = (work.noop, work.nap, work.stamp, work.async_noop, work.async_nap, work.async_stamp)
TASKS: dict[str, Calling] = {}
for function in FUNCTIONS:
    name = function.__name__
    TASKS[KEPT + name] = task(name=f"bench.{name}")(function)
    TASKS[name] = TASKS[KEPT + name].options(ignore_result=True)
PENDING = "return redis.call('LLEN', 'rq:queue:default') + redis.call('ZCARD', 'rq:wip:default')"
COMMAND = ("{bin}/rq", "worker", "-w", "jobs.queue.worker.{worker}", "default")
ENVIRON = (("RQ_CONFIG", "contenders.ours_config"), ("TURNSTILE_LOG_LEVEL", "WARNING"))


def _io(*scenes: str, job: str = "async_", processes: int = 2) -> work.Workers:
    environ = (("TURNSTILE_IO_SLOTS", "{slots}"), *ENVIRON)
    command = tuple(part.replace("{worker}", "IoWorker") for part in COMMAND)
    return work.Workers(command, PENDING, True, scenes, processes, 100, job=job, environ=environ)


def _cpu(*scenes: str, children: int = 1, job: str = "", processes: int = 2) -> work.Workers:
    environ = (("TURNSTILE_CPU_CHILDREN", str(children)), *ENVIRON)
    command = tuple(part.replace("{worker}", "CpuWorker") for part in COMMAND)
    return work.Workers(command, PENDING, True, scenes, processes, job=job, environ=environ)


WORKERS = {
    "IoWorker": _io(*work.ALL),
    "IoWorker, results kept": _io(work.DRAIN, job="kept_async_"),
    "IoWorker, blocking functions": _io(*work.ALL, job=""),
    "IoWorker, 1 process": _io(work.DRAIN, processes=1),
    "CpuWorker, 1 of 2 children": _cpu(work.DRAIN, children=2, processes=1),
    "CpuWorker, 2 of 1 child": _cpu(work.DRAIN),
    "CpuWorker, 2 of 1, results kept": _cpu(work.DRAIN, job="kept_"),
    "CpuWorker, 1 of 1 child": _cpu(work.LATENCY),
}


def send(job: str, *args: Any) -> None:
    """One job for the workers."""
    TASKS[job].delay(*args)


def send_many(job: str, calls: list[list[Any]]) -> None:
    """Many jobs for the workers."""
    TASKS[job].enqueue_many(calls)


def enqueue() -> None:
    """One job."""
    add.delay(3, 4)


def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    add.enqueue_many([(3, 4)] * jobs)
