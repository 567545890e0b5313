"""The periodic jobs: the one table."""

from jobs.mall import reports
from jobs.queue.periodic import Periodic
from jobs.settings import Settings


def table(settings: Settings) -> tuple[Periodic, ...]:
    """Every periodic job; times of a day are the mall's."""
    zone = settings.timezone
    return (
        Periodic("footfall-rollup", reports.roll_up, "5 * * * *"),
        Periodic("daily-report", reports.daily_report, "15 0 * * *", timezone=zone),
        Periodic("cleanup", reports.cleanup, "45 3 * * *", timezone=zone),
    )
