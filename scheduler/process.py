"""The scheduler as a process: everything that needs usable settings."""

import time

from jobs import crash_points, log
from jobs.connections import connect, redis_url
from jobs.errors import NoRedis
from jobs.mall import tasks
from jobs.mall.periodic import table
from jobs.mall.reconcile import reconcile
from jobs.queue import canvas_store
from jobs.settings import Settings
from scheduler.duty import logger
from scheduler.scheduler import TurnstileScheduler

WAIT_S = 1.0


def run(settings: Settings) -> None:
    """Finds Redis and schedules."""
    log.configure(settings, process="scheduler")
    crash_points.arm(settings.crash_at)
    tasks.register(settings)
    client = connect(_wait_for_url(settings))
    TurnstileScheduler(
        connection=client,
        table=table(settings),
        reconcile=lambda now: [
            *reconcile(client, now=now, after_s=settings.reconcile_after_s),
            *canvas_store.reconcile(client, now=now, after_s=settings.reconcile_after_s),
        ],
        lease_s=settings.lease_s,
        dead_letters_max=settings.dead_letters_max,
        dead_letters_max_age_s=settings.dead_letters_max_age_s,
    ).run()


def _wait_for_url(settings: Settings) -> str:
    """Where Redis is; waits for the embedded server to be started."""
    told = False
    while True:
        try:
            return redis_url(settings)
        except NoRedis as error:
            if not told:
                logger.warning("waiting for Redis", error=str(error))
            told = True
            time.sleep(WAIT_S)
