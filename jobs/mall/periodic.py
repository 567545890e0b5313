"""The periodic jobs: the one table."""

from jobs.mall import reports
from jobs.queue.periodic import Missed, Overlap, Periodic
from jobs.settings import Settings

REPORT_DAYS = 7
"""Reports that are made up for; people by gate are kept hardly longer."""


def table(settings: Settings) -> tuple[Periodic, ...]:
    """Every periodic job; times of a day are the mall's.

    Roll-up and cleanup do whatever there is to do, so one run makes up for all. A report is about its own day: each is made.
    """
    zone = settings.timezone
    return (
        Periodic("footfall-rollup", reports.roll_up, "5 * * * *"),
        Periodic(
            "daily-report",
            reports.daily_report,
            "15 0 * * *",
            timezone=zone,
            overlap=Overlap.QUEUE_ONE,
            missed=Missed.ALL,
            missed_max=REPORT_DAYS,
        ),
        Periodic("cleanup", reports.cleanup, "45 3 * * *", timezone=zone),
    )
