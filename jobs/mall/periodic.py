"""The periodic jobs: the one table."""

from __future__ import annotations

from jobs.mall import reports
from jobs.queue.periodic import Periodic
from jobs.settings import current

TABLE: tuple[Periodic, ...] = (
    Periodic("footfall-rollup", reports.roll_up, "5 * * * *"),
    Periodic("daily-report", reports.daily_report, "15 0 * * *", timezone=current().timezone),
    Periodic("cleanup", reports.cleanup, "45 3 * * *", timezone=current().timezone),
)
