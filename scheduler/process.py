"""The scheduler as a process: everything that needs usable settings."""

from __future__ import annotations

from jobs import log
from jobs.connections import connect, redis_url
from jobs.errors import NoRedis
from jobs.mall import tasks
from jobs.mall.periodic import TABLE
from jobs.mall.reconcile import reconcile
from jobs.settings import Settings
from scheduler.duty import logger
from scheduler.scheduler import TurnstileScheduler
from scheduler.stop import Stop

WAIT_S = 1.0


def run(settings: Settings, stop: Stop) -> None:
    """Finds Redis and schedules until told to stop."""
    log.configure(settings, process="scheduler")
    tasks.register(settings)
    url = _wait_for_url(settings, stop)
    if url is None:
        return
    client = connect(url)
    TurnstileScheduler(
        connection=client,
        table=TABLE,
        reconcile=lambda now: reconcile(client, now=now, after_s=settings.reconcile_after_s),
    ).run(stop=stop)


def _wait_for_url(settings: Settings, stop: Stop) -> str | None:
    """Where Redis is; waits for the embedded server to be started. None when told to stop before."""
    told = False
    while not stop:
        try:
            return redis_url(settings)
        except NoRedis as error:
            if not told:
                logger.warning("waiting for Redis", error=str(error))
            told = True
            stop.wait(WAIT_S)
    return None
