"""The two jobs of stock_harness.py as tasks of ours, and the scheduler that fires the second."""

import signal
import sys

import stock_jobs

from jobs import log
from jobs.connections import connect
from jobs.queue.backoff import Backoff
from jobs.queue.periodic import Missed, Overlap, Periodic
from jobs.queue.running import running_job
from jobs.queue.task import task
from jobs.settings import current
from scheduler.scheduler import TurnstileScheduler

EVERY_S = 2
note = task(
    name="chaos.note", queue="alpha", retry=Backoff(max_attempts=4, base_s=0.1, cap_s=1.0), result_ttl_s=stock_jobs.KEPT_S
)(stock_jobs.note)


@task(name="chaos.tick", queue="beta", ignore_result=True)
def tick() -> None:
    """The periodic job."""
    stock_jobs.tick(running_job().id)


TABLE = [Periodic("tick", tick, every_s=EVERY_S, overlap=Overlap.ALLOW, missed=Missed.ALL, missed_max=100)]


def schedule() -> None:
    """Is the scheduler, until a signal."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    log.configure(current(), process="scheduler")
    TurnstileScheduler(connection=connect(str(current().redis_url)), table=TABLE, lease_s=current().lease_s).run()
