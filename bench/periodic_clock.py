"""A scheduler process for which time passes faster, as far as periodic jobs are concerned: what bench/periodic.py kills.

`python bench/periodic_clock.py <jobs of the table> <real instant at which it is BASE> <how many times as fast>`. The loop, the
lease and all other duties live in real time.
"""

import signal
import sys
from datetime import UTC, datetime

import peers  # noqa: F401  finds jobs
import redis

from jobs import log
from jobs.connections import connect
from jobs.queue.periodic import Missed, Overlap, Periodic
from jobs.queue.task import task
from jobs.settings import current
from scheduler.duty import Counts, Duty
from scheduler.fires import Runs
from scheduler.periodic import Registration
from scheduler.promote import Promotion
from scheduler.scheduler import TurnstileScheduler

BASE = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
"""Half an hour before clocks in Europe go back."""
QUEUE = "fires"
FAILOVER_S = 600.0
"""Much longer than a failover takes, at any speed."""


@task(name="bench.fire", queue=QUEUE)
def fire() -> None:
    """Is never run."""


MADE_UP = {"overlap": Overlap.ALLOW, "missed": Missed.ALL, "missed_max": 100}
LATE = {"overlap": Overlap.ALLOW, "missed": Missed.SKIP, "grace_s": FAILOVER_S}
TABLE = (
    Periodic("quarters", fire, "*/15 * * * * *", timezone="Europe/Berlin", **MADE_UP),
    Periodic("jittered", fire, every_s=20, jitter_s=10.0, **MADE_UP),
    Periodic("late", fire, every_s=30, **LATE),
    Periodic("minutes", fire, "* * * * *", timezone="Australia/Lord_Howe", **MADE_UP),
    Periodic("late-jittered", fire, "*/2 * * * *", timezone="America/New_York", jitter_s=60.0, **LATE),
)
"""None of them may lose a fire: what comes too late is made up for, or does not come too late."""


def fast(real: float, anchor: float, speed: float) -> float:
    """The instant that it is for the periodic jobs."""
    return BASE + (real - anchor) * speed


class Fast:
    """A duty that lives by the faster clock."""

    def __init__(self, duty: Duty, anchor: float, speed: float) -> None:
        self._duty = duty
        self._anchor = anchor
        self._speed = speed

    @property
    def interval_s(self) -> float:
        """Real seconds: how often Redis is asked does not change."""
        return self._duty.interval_s

    def tick(self, now: float) -> Counts:
        """The duty's own."""
        return self._duty.tick(fast(now, self._anchor, self._speed))


def schedule(client: redis.Redis, n_jobs: int, anchor: float, speed: float) -> None:
    """Runs until a signal."""
    scheduler = TurnstileScheduler(connection=client, table=TABLE[:n_jobs])
    periodic = (Registration, Promotion, Runs)
    scheduler._duties = [Fast(duty, anchor, speed) if isinstance(duty, periodic) else duty for duty in scheduler._duties]
    scheduler.run()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    log.configure(current(), process="scheduler")
    schedule(connect(str(current().redis_url)), int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
