"""The count job: takes a slice of the buffer and applies it - sums and removal - in one script, exactly once.

The batch grows with the load: events that come while a count job waits or runs pile up behind it. A record of the buffer is a sum
of events that were accepted together, so counting costs by the minutes and gates in it, not by its events.
"""

import time
import uuid
from datetime import datetime

from jobs import connections, crash_points, keys, log, trace
from jobs.queue.batches import BUFFERS, UNTIL_IT_WORKS, Buffer
from jobs.queue.job import JobSpec
from jobs.queue.running import running_job
from jobs.queue.script import beside
from jobs.queue.task import task
from jobs.settings import current

COUNT = beside(__file__, "count")
DAYS_KEPT_S = 8 * 86_400
logger = log.get("counting")
SLICES = 25
"""Slices that one job applies before it hands over, so that a pause or a stop is obeyed soon."""


@task(name="entries.count", queue="entries", retry=UNTIL_IT_WORKS, time_limit_s=60.0, result_ttl_s=60, owned=True)
def count() -> int:
    """Counts what waits in the buffer; returns how many events it applied."""
    client, job, settings = connections.process_client(), running_job(), current()
    applied = 0
    for number in range(SLICES):
        now = time.time()
        following = count_spec(now)
        crash_points.reach("count.asked")
        taken, waiting, alerts = COUNT(
            client,
            [keys.ENTRIES, keys.ENTRIES_BUFFER, keys.ENTRIES_JOB, keys.DIRTY_DAYS, keys.ALERTS],
            [
                job.id,
                settings.count_batch,
                repr(now),
                DAYS_KEPT_S,
                1 if number == SLICES - 1 else 0,
                following.id,
                following.queue,
                following.fields,
                datetime.fromtimestamp(now, settings.zone).strftime("%Y-%m-%d"),
                *(part for limit in settings.capacity for part in limit),
            ],
        )
        crash_points.reach("count.applied")
        applied += taken
        for kind, gate, people, capacity in alerts:
            logger.warning("alert", kind=kind.decode(), gate=gate.decode(), people=int(people), capacity=int(capacity))
        if not waiting:
            break
    return applied


def count_spec(now: float) -> JobSpec:
    """A new count job."""
    with trace.within(""):  # it belongs to the events of many requests
        return count.spec(job_id=f"count-{uuid.uuid4().hex}", now=now)


BUFFERS[count.name] = Buffer(keys.ENTRIES_BUFFER, keys.ENTRIES_JOB, count_spec)
