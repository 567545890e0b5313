"""What operators see of the queue: queues and workers, read in a few round trips."""

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import msgspec
import redis

from jobs import keys
from jobs.queue.priorities import base, served
from jobs.queue.script import beside

PURGE = beside(__file__, "purge")
PURGE_LIMIT = 100_000
WINDOW_MINUTES = 2
STOCK = "stock"
"""The kind of a worker that is not ours; ours are io or cpu."""
JOBS_OF_A_WORKER = 100
JOBS_OF_A_QUEUE = 1_000
"""How many of a queue's started jobs are looked at for their workers."""
COUNTED = ("enqueued", "finished", "retried", "dead", "reclaimed", "expired", "deferred")


class QueueInfo(msgspec.Struct, frozen=True):
    """One queue. Rates are jobs a second over the last one to two minutes, `held` those of `depth` that wait for the limits of
    their tasks, `oldest_age_s` the age of the oldest of the others: more workers or less load would not help those held."""

    name: str
    depth: int
    oldest_age_s: float
    started: int
    scheduled: int
    failed: int
    paused: bool
    rate_in: float
    rate_out: float
    enqueued: int
    finished: int
    retried: int
    dead: int
    reclaimed: int
    expired: int = 0
    deferred: int = 0
    held: int = 0


class CurrentJob(msgspec.Struct, frozen=True):
    """A job in a worker's hands, some of them about to begin. `started_at` is Unix seconds."""

    id: str
    task: str
    queue: str
    started_at: float


class WorkerInfo(msgspec.Struct, frozen=True):
    """One live worker. Instants are Unix seconds, times seconds. `busy` of `size` jobs run; `size` moves between `min` and `max`.
    A stock worker runs one job and has neither pool nor range, nor does it tell its memory."""

    name: str
    queues: list[str]
    state: str
    pid: int | None
    hostname: str
    current_job: str | None
    started_at: float
    heartbeat_at: float
    successful: int
    failed: int
    working_s: float
    kind: str = STOCK
    pool: str | None = None
    size: int = 1
    min: int | None = None
    max: int | None = None
    busy: int = 0
    memory_bytes: int | None = None
    current_jobs: list[CurrentJob] = []


def queue_names(client: redis.Redis) -> list[str]:
    """Every queue that was ever pushed to, sorted; a name that is no text belongs to somebody else."""
    names = [key.decode(errors="replace").removeprefix("rq:queue:") for key in client.smembers(keys.QUEUES)]
    return sorted(name for name in names if "\ufffd" not in name)


def queues(client: redis.Redis, now: float) -> list[QueueInfo]:
    """All queues, in three round trips, or four when jobs are held."""
    names = queue_names(client)
    held = held_jobs(client, names)
    minute = int(now // 60)
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.llen(keys.queue(name))
            pipeline.lindex(keys.queue(name), 0)
            pipeline.zcard(keys.wip(name))
            pipeline.zcard(keys.scheduled(name))
            pipeline.zcard(keys.failed(name))
            pipeline.exists(keys.paused(base(name)))
            pipeline.hgetall(keys.totals(name))
            for past in range(WINDOW_MINUTES):
                pipeline.hmget(keys.stats(name, minute - past), "enqueued", "finished", "dead")
        answers = pipeline.execute()
    width = 7 + WINDOW_MINUTES
    rows = [answers[start : start + width] for start in range(0, len(answers), width)]
    ages = _ages(client, [row[1] for row in rows], now)
    span_s = now - (minute - WINDOW_MINUTES + 1) * 60
    infos = []
    for name, age_s, row in zip(names, ages, rows, strict=True):
        depth, _oldest, started, scheduled, failed, paused, totals, *minutes = row
        counts = {field.decode(): int(value) for field, value in totals.items()}
        waiting = sum(number for (queue, _task), number in held.items() if queue == name)
        rates = [sum(int(part[index] or 0) for part in minutes) / span_s for index in range(3)]
        infos.append(
            QueueInfo(
                name=name,
                depth=depth + waiting,
                oldest_age_s=age_s,
                started=started,
                scheduled=scheduled,
                failed=failed,
                paused=bool(paused),
                rate_in=round(rates[0], 3),
                rate_out=round(rates[1] + rates[2], 3),
                held=waiting,
                **{what: counts.get(what, 0) for what in COUNTED},
            )
        )
    return infos


def held_jobs(client: redis.Redis, names: Sequence[str]) -> dict[tuple[str, str], int]:
    """How many jobs of these queues wait for the limits of their task: (queue, task) -> number."""
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.zrange(keys.held(name), 0, -1)
        tasks = pipeline.execute()
    places = [(name, task.decode()) for name, found in zip(names, tasks, strict=True) for task in found]
    with client.pipeline(transaction=False) as pipeline:
        for name, task in places:
            pipeline.llen(keys.held_jobs(name, task))
        return dict(zip(places, pipeline.execute(), strict=True))


def _ages(client: redis.Redis, ids: list[bytes | None], now: float) -> list[float]:
    with client.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hget(keys.job((job_id or b"-").decode()), "enqueued_at")
        found = [instant(text.decode() if text else None) for text in pipeline.execute()]
    return [round(max(0.0, now - instant), 3) if instant else 0.0 for instant in found]


def instant(text: str | None) -> float:
    """Unix seconds of an instant in RQ's format; 0 when there is none or it cannot be read."""
    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0


def workers(client: redis.Redis, *, with_jobs: bool = False) -> list[WorkerInfo]:
    """All workers whose heartbeat is alive, in two round trips; with the oldest of their current jobs in two more."""
    registered = sorted(client.smembers(keys.WORKERS))
    with client.pipeline(transaction=False) as pipeline:
        for key in registered:
            pipeline.hgetall(key)
        hashes = pipeline.execute(raise_on_error=False)
    found = []
    for key, fields in zip(registered, hashes, strict=True):
        with contextlib.suppress(ValueError, AttributeError):  # an entry that is no worker's is somebody else's
            text = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
            if text and "death" not in text:
                found.append(_worker(key.decode().removeprefix("rq:worker:"), text))
    if with_jobs:
        jobs = _current_jobs(client, sorted({name for worker in found for queue in worker.queues for name in served(queue)}))
        found = [msgspec.structs.replace(worker, current_jobs=jobs.get(worker.name, [])[:JOBS_OF_A_WORKER]) for worker in found]
    return found


def _current_jobs(client: redis.Redis, names: Sequence[str]) -> dict[str, list[CurrentJob]]:
    """The started jobs of the queues by worker, the oldest first."""
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.zrange(keys.wip(name), 0, JOBS_OF_A_QUEUE - 1)
        members = pipeline.execute()
    held = [
        (name, one.decode(errors="replace").partition(":")[0])
        for name, found in zip(names, members, strict=True)
        for one in found
    ]
    with client.pipeline(transaction=False) as pipeline:
        for _name, job_id in held:
            pipeline.hmget(keys.job(job_id), "task", "worker_name", "started_at")
        rows = pipeline.execute()
    jobs = defaultdict(list)
    for (name, job_id), row in zip(held, rows, strict=True):
        task, worker, started_at = [part.decode(errors="replace") if part else "" for part in row]
        jobs[worker].append(CurrentJob(job_id, task or "?", name, instant(started_at)))
    return {worker: sorted(found, key=lambda job: job.started_at) for worker, found in jobs.items()}


def _worker(name: str, text: dict[str, str]) -> WorkerInfo:
    state = text.get("state", "?")
    return WorkerInfo(
        name=name,
        queues=[queue for queue in text.get("queues", "").split(",") if queue],
        state=state,
        pid=_whole(text.get("pid")),
        hostname=text.get("hostname", ""),
        current_job=text.get("current_job") or None,
        started_at=instant(text.get("birth")),
        heartbeat_at=instant(text.get("last_heartbeat")),
        successful=int(text.get("successful_job_count", 0)),
        failed=int(text.get("failed_job_count", 0)),
        working_s=round(float(text.get("total_working_time", 0)), 3),
        kind=text.get("kind", STOCK),
        pool=text.get("pool") or None,
        size=int(text.get("size", 1)),
        min=_whole(text.get("min")),
        max=_whole(text.get("max")),
        busy=int(text.get("busy", state == "busy")),
        memory_bytes=_whole(text.get("memory_bytes")),
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def pause(client: redis.Redis, name: str) -> None:
    """Our workers claim nothing from the queue, of whatever priority, until it is resumed; stock workers do not know of it."""
    client.set(keys.paused(base(name)), "1")


def resume(client: redis.Redis, name: str) -> None:
    """Ends a pause and wakes the queue's workers."""
    bell = keys.bell(base(name))
    client.delete(keys.paused(base(name)))
    client.lpush(bell, "1")
    client.ltrim(bell, 0, 7)


def purge(client: redis.Redis, name: str) -> tuple[int, int]:
    """Deletes the ready jobs of a queue; returns (purged, kept). Jobs that belong to an order or a buffer are kept."""
    purged, kept = PURGE(client, [keys.queue(name), keys.held(name)], [PURGE_LIMIT])
    return int(purged), int(kept)
