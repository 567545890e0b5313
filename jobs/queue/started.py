"""The jobs that run now, as operators see them: the longest-running first, with what they reported last."""

from collections.abc import Sequence

import msgspec
import redis

from jobs import keys
from jobs.queue import progress
from jobs.queue.overview import instant
from jobs.queue.progress import Progress


class StartedJob(msgspec.Struct, frozen=True):
    """A job in a worker's hands. `started_at` is Unix seconds."""

    id: str
    task: str
    queue: str
    worker: str
    started_at: float
    progress: Progress | None


def started(client: redis.Redis, queues: Sequence[str], limit: int) -> list[StartedJob]:
    """At most `limit` of the jobs that run on the queues, in two round trips."""
    with client.pipeline(transaction=False) as pipeline:
        for name in queues:
            pipeline.zrange(keys.wip(name), 0, limit - 1)
        found = [(name, member) for name, members in zip(queues, pipeline.execute(), strict=True) for member in members]
        ids = [member.decode(errors="replace").partition(":")[0] for _, member in found]
        for job_id in ids:
            pipeline.hmget(keys.job(job_id), "task", "worker_name", "started_at", "progress")
        answers = pipeline.execute()
    jobs = []
    for (name, _), job_id, row in zip(found, ids, answers, strict=True):
        task, worker, started_at, report = [part.decode(errors="replace") if part else "" for part in row]
        since = instant(started_at)
        if since:
            jobs.append(StartedJob(job_id, task or "?", name, worker, since, progress.read(report, "started", since)))
    return sorted(jobs, key=lambda job: job.started_at)[:limit]
