"""A stack for stock_harness.py, plain RQ and rq-scheduler or ours, with its processes and a client of each kind."""

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import rq_scheduler
import stock_jobs
import stock_ours
from processes import Process, Processes
from rq import Queue, Retry
from servers import Server

from jobs import connections, keys
from jobs.queue import calling

QUEUES = ("alpha", "beta")
SCHEDULER = "scheduler"
WORKERS = ("worker-1", "worker-2", "worker-3")
WAYS = {
    "SIGKILL worker": 4,
    "SIGKILL job's process": 3,
    "SIGKILL all of a worker": 3,
    "SIGTERM worker": 4,
    "SIGKILL scheduler": 2,
    "SIGTERM scheduler": 2,
    "SIGKILL Redis": 2,
}
"""Faults, and how often each is drawn."""
GRACE_S = 10.0
"""From SIGTERM to SIGKILL."""

Send = Callable[[str, str, float, int], None]


class Place:
    """One stack with its processes: `stock` or `ours`."""

    def __init__(self, stack: str, server: Server, processes: Processes) -> None:
        self.stack, self.server = stack, server
        self.client = connections.connect(server.url)
        self._processes = processes
        stock = ["rq", "worker", "--url", server.url]
        ours = ["rq", "worker"]
        command = stock if stack == "stock" else ours
        self._commands = {name: [*command, *(QUEUES if name != "worker-3" else QUEUES[:1])] for name in WORKERS}
        scheduler = (
            ["rqscheduler", "--url", server.url, "-i", "1"] if stack == "stock" else ["python", "tests/chaos/stock_config.py"]
        )
        self._commands[SCHEDULER] = scheduler
        self.running: dict[str, Process] = {}

    def start(self, *names: str) -> None:
        """Starts the named processes."""
        for name in names:
            self.running[name] = self._processes.start(*self._commands[name])

    def tend(self) -> None:
        """The platform: what has ended is started again."""
        for name, process in list(self.running.items()):
            if not process.runs:
                self.start(name)

    def strike(self, way: str, worker: str) -> None:
        """Does one fault; what it ended is started again."""
        what, _, role = way.partition(" ")
        if role == "Redis":
            self.server.kill()
            self.server.start()
            return
        name = SCHEDULER if role == SCHEDULER else worker
        process = self.running[name]
        if role == "job's process":
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for pid in children.read_text().split() if process.runs else ():
                os.kill(int(pid), signal.SIGKILL)
            return
        if what == "SIGTERM":
            process.send(signal.SIGTERM)
            try:
                process.ended(GRACE_S)
            except AssertionError:
                process.kill()
        elif role == "all of a worker":
            process.kill()
        else:
            process.send(signal.SIGKILL)
            process.ended(GRACE_S)
        self.start(name)

    def sender(self) -> Send:
        """What sends a job once: its name, its queue, how long it takes, and in how many seconds it is due."""
        if self.stack == "stock":
            queues = {name: Queue(name, connection=self.client) for name in QUEUES}
            later = {name: rq_scheduler.Scheduler(name, connection=self.client) for name in QUEUES}

            def stock(name: str, queue: str, seconds: float, due_in_s: int) -> None:
                if due_in_s:
                    later[queue].enqueue_in(
                        timedelta(seconds=due_in_s), stock_jobs.note, name, seconds, job_id=name, job_result_ttl=stock_jobs.KEPT_S
                    )
                else:
                    queues[queue].enqueue(
                        stock_jobs.note, name, seconds, job_id=name, retry=Retry(max=3), unique=True, result_ttl=stock_jobs.KEPT_S
                    )

            return stock

        def ours(name: str, queue: str, seconds: float, due_in_s: int) -> None:
            now = time.time()
            due_at = now + due_in_s if due_in_s else None
            task = stock_ours.note
            spec = task.build(task.options(queue=queue).defaults, (name, seconds), {}, job_id=name, now=now, due_at=due_at)
            calling.enqueue(self.client, spec, now=now, due_at=due_at)

        return ours

    def schedule(self) -> None:
        """Registers the periodic job; ours stands in the scheduler's table."""
        if self.stack == "stock":
            scheduler = rq_scheduler.Scheduler("beta", connection=self.client)
            scheduler.schedule(datetime.now(UTC).replace(tzinfo=None), stock_jobs.tick, interval=stock_ours.EVERY_S, id="tick")

    def waiting(self) -> int:
        """How many of the jobs that were sent wait in a queue, or for their time."""
        found = [job_id for queue in QUEUES for job_id in self.client.lrange(keys.queue(queue), 0, -1)]
        found += self.client.zrange(keys.SCHEDULED_JOBS, 0, -1)
        return sum(job_id.startswith(b"n") for job_id in found)
