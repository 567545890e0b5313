"""What keeps jobs right under an unmodified `rq.Worker`: the failure callback that each job's hash names.

A stock worker calls `on_failure` before it writes (rq 2.12.0 worker/base.py `perform_job`) and then obeys
`job.retries_left` and `job.retry_intervals`. So the same decision as in our worker is taken here. What bypasses the
callback - a horse killed by a signal - meets the static intervals in the hash and then the reconciler.
"""

import math
import time
from typing import Any

import redis
from rq.exceptions import AbandonedJobError
from rq.job import Job

from jobs import crash_points, keys, log
from jobs.errors import Permanent
from jobs.queue import canvas_effects, ending, settling
from jobs.queue.attempts import failed_attempt
from jobs.queue.backoff import Dead, Defer, Retry
from jobs.queue.ending import MAX_CRASHES, Claim
from jobs.queue.hooks import add_effects
from jobs.queue.outcome import encode_result

logger = log.get("stock")


def on_failure(job: Job, connection: redis.Redis, _error_type: Any, error: BaseException, _trace: Any) -> None:
    """Decides for a stock worker what follows a failure. Never raises: that would end every worker's maintenance."""
    try:
        _decide_for(job, connection, error)
    except Exception:  # the edge of our code inside a foreign worker; RQ's own handling of the failure goes on
        logger.exception("failure callback", job_id=job.id)


def on_success(job: Job, connection: redis.Redis, result: Any) -> None:
    """Hands the result of a member of a canvas over, before the stock worker writes that it has finished.

    What it raises makes the attempt a failed one: the job is run again rather than the canvas left waiting.
    """
    field = connection.hget(keys.job(job.id), "canvas") or b""
    try:
        effects = canvas_effects.finished(field.decode(), encode_result(result).decode(), time.time())
    except TypeError as error:
        raise Permanent(f"the result is not JSON: {error}") from error
    with connection.pipeline(transaction=True) as pipeline:
        add_effects(pipeline, effects, keys.wip(job.origin), "")
        pipeline.execute()
    crash_points.reach("stock.told")


def _decide_for(job: Job, client: redis.Redis, error: BaseException) -> None:
    now = time.time()
    fields = client.hgetall(keys.job(job.id))
    worker = job.worker_name or "stock"
    started_at = job.started_at.timestamp() if job.started_at else now
    claim = Claim(job.id, "", job.origin, worker, fields, started_at)
    if isinstance(error, AbandonedJobError):
        _count_crash(job, client, claim, now)
        return
    failed = failed_attempt(claim.attempt, started_at, now, worker, error)
    crash_points.reach("stock.decided")
    match settling.follows(claim, error, now):
        case Retry(delay_s):
            ending.note_retry(client, claim, failed)
            job.retries_left, job.retry_intervals = 1, [math.ceil(delay_s)]
        case Defer(delay_s):  # no attempt: nothing is noted
            job.retries_left, job.retry_intervals = 1, [math.ceil(delay_s)]
        case Dead():
            ending.bury(client, claim, failed, fenced=False)
            job.retries_left = 0


def _count_crash(job: Job, client: redis.Redis, claim: Claim, now: float) -> None:
    crashes = client.hincrby(keys.job(job.id), "crashes", 1)
    if crashes < MAX_CRASHES:
        job.retries_left, job.retry_intervals = 1, None
        return
    ending.bury(client, claim, ending.quarantined(claim, now), fenced=False, burned=0)
    job.retries_left = 0
