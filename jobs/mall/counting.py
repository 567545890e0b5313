"""The count job: takes a slice of the buffer and applies it - sums and removal - in one script, exactly once.

The batch grows with the load: events that come while a count job waits or runs pile up behind it.
"""

import time
import uuid

from jobs import connections, keys
from jobs.queue.batches import BUFFERS, UNTIL_IT_WORKS, Buffer
from jobs.queue.job import JobSpec
from jobs.queue.running import running_job
from jobs.queue.script import beside
from jobs.queue.task import task
from jobs.settings import current

COUNT = beside(__file__, "count")
DAYS_KEPT_S = 8 * 86_400
SLICES = 25
"""Slices that one job applies before it hands over, so that a pause or a stop is obeyed soon."""


@task(name="entries.count", queue="entries", retry=UNTIL_IT_WORKS, time_limit_s=60.0, result_ttl_s=60, owned=True)
def count() -> int:
    """Counts what waits in the buffer; returns how many events it applied."""
    client, job = connections.process_client(), running_job()
    applied = 0
    for number in range(SLICES):
        now = time.time()
        following = count_spec(now)
        taken, waiting = COUNT(
            client,
            [keys.ENTRIES, keys.ENTRIES_BUFFER, keys.ENTRIES_JOB, keys.DIRTY_DAYS],
            [
                job.id,
                current().count_batch,
                repr(now),
                DAYS_KEPT_S,
                1 if number == SLICES - 1 else 0,
                following.id,
                following.queue,
                following.fields,
            ],
        )
        applied += taken
        if not waiting:
            break
    return applied


def count_spec(now: float) -> JobSpec:
    """A new count job."""
    return count.spec(job_id=f"count-{uuid.uuid4().hex}", now=now)


BUFFERS[count.name] = Buffer(keys.ENTRIES_BUFFER, keys.ENTRIES_JOB, count_spec)
