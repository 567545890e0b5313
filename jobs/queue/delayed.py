"""Delayed jobs: what waits for its time, since its sender or the backoff after a failure put it off. Looked at, searched,
run now, rescheduled, cancelled; and how late the scheduler is.

They wait in rq-scheduler's set or in RQ's scheduled registry of their queue. The definitions of periodic jobs stand in the
former too and are none of this file's business. Each change is one script that finds the job where it waits, so beside the
scheduler, which promotes it when it is due, a job is moved by one of the two.
"""

from datetime import UTC, datetime

import msgspec
import redis

from jobs import keys
from jobs.errors import Conflict, InvalidField, NotFound
from jobs.queue import audit, job_store
from jobs.queue.cursor import Cursor
from jobs.queue.job_store import JobView
from jobs.queue.overview import queue_names
from jobs.queue.script import beside

MOVE = beside(__file__, "delayed_move")
PAGE = beside(__file__, "delayed_page")
STATE = beside(__file__, "delayed_state")
MAX_AHEAD_S = 366 * 86_400.0
SEARCHED = 2_000
"""Jobs that one search looks at; its cursor leads on from there."""
STEP = 100
REFUSALS = {
    "owned": job_store.OWNED,
    "periodic": job_store.DEFINITION,
    "repeating": "the job repeats, as an rq-scheduler client asked: reschedule it instead",
}


class Delayed(msgspec.Struct, frozen=True):
    """One job that waits until `due_at` (Unix seconds). `failures` is how many attempts failed before; one that is `owned`
    belongs to an order or a buffer, and can only be run now."""

    id: str
    due_at: float
    queue: str
    task: str
    description: str
    failures: int
    owned: bool


class DelayedPage(msgspec.Struct, frozen=True):
    """Part of the delayed jobs, the next due first; `next_cursor` asks for the next part."""

    scheduled: list[Delayed]
    next_cursor: str | None = None


class DelayedState(msgspec.Struct, frozen=True):
    """`lag_s` is how far the earliest due time, definitions included, lies behind the server's clock; it grows while nobody
    promotes. `jobs` counts those that wait, by the key of their set."""

    lag_s: float
    jobs: dict[str, int]


def page(
    client: redis.Redis,
    *,
    limit: int,
    cursor: str | None = None,
    task: str | None = None,
    queue: str | None = None,
    q: str | None = None,
) -> DelayedPage:
    """Delayed jobs: those of a task, of a queue, with the text `q`, in any case, in id or description.

    Looks at a bounded number of jobs: there may be a next page after one that is not full. Raises InvalidField for a cursor
    that is none.
    """
    start = Cursor.parse(cursor or "-inf:")
    sets = [keys.SCHEDULED_JOBS, *(keys.scheduled(name) for name in queue_names(client) if queue in (None, name))]
    found: list[Delayed] = []
    text, last = (q or "").casefold(), (start.score.encode(), start.member.encode())
    for _ in range(0, SEARCHED, STEP):
        batch = PAGE(client, sets, [*last, STEP])
        for job_id, due_at, fields in zip(batch[0::3], batch[1::3], batch[2::3], strict=True):
            if len(found) == limit:
                return DelayedPage(found, _mark(*last))
            last = due_at, job_id
            job = _delayed(job_id, due_at, fields)
            if job and _fits(job, task, queue, text):
                found.append(job)
        if len(batch) < 3 * STEP:
            return DelayedPage(found)
    return DelayedPage(found, _mark(*last))


def _fits(job: Delayed, task: str | None, queue: str | None, text: str) -> bool:
    return task in (None, job.task) and queue in (None, job.queue) and text in f"{job.id}\n{job.description}".casefold()


def _mark(due_at: bytes, job_id: bytes) -> str:
    return f"{due_at.decode()}:{job_id.decode(errors='replace')}"


def _delayed(job_id: bytes, due_at: bytes, fields: list[bytes | None]) -> Delayed | None:
    if not any(fields):
        return None
    task, queue, description, failures, owned = [(field or b"").decode(errors="replace") for field in fields]
    return Delayed(
        id=job_id.decode(errors="replace"),
        due_at=float(due_at),
        queue=queue or "default",
        task=task or description.partition("(")[0],  # a stock client's job does not name it
        description=description,
        failures=int(failures) if failures.isdecimal() else 0,
        owned=bool(owned),
    )


def run_now(client: redis.Redis, job_id: str, now: float, *, by: str) -> JobView:
    """Moves it to its queue, with all that it is and has. Raises NotFound, Conflict for a job that does not wait (any more)."""
    return _move(client, [job_id, repr(now), "", "run job", by], "run now")


def reschedule(client: redis.Redis, job_id: str, due_at: float, now: float, *, by: str) -> JobView:
    """Lets it wait until another time, also one that waits for its backoff.

    Raises NotFound, InvalidField for a time that does not lie ahead, and Conflict for a job that does not wait (any more) or
    that belongs to an order.
    """
    if not now < due_at <= now + MAX_AHEAD_S:
        raise InvalidField("at", "must lie ahead, by a year at most; run the job now instead of giving a time that is past")
    what = f"reschedule job to {datetime.fromtimestamp(due_at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return _move(client, [job_id, repr(now), repr(due_at), what, by], "rescheduled")


def cancel(client: redis.Redis, job_id: str, now: float, *, by: str) -> JobView:
    """Cancels it, also when it became due in the meantime and has not started: it never runs. Raises NotFound, Conflict."""
    job = job_store.cancel(client, job_id, now)
    audit.record(client, "cancel job", who=by, target=job_id)
    return job


def _move(client: redis.Redis, args: list[str], verb: str) -> JobView:
    job_id, _now, _due_at, what, by = args
    answer = MOVE(client, [keys.job(job_id), keys.SCHEDULED_JOBS], args).decode()
    if answer == "unknown":
        raise NotFound("job", job_id)
    if answer != "done":
        raise Conflict(REFUSALS.get(answer, f"the job is {answer}: only one that waits for its time can be {verb}"), answer)
    audit.say(what, who=by, target=job_id)
    return job_store.get(client, job_id)


def state(client: redis.Redis) -> DelayedState:
    """What waits, and how late it is, in one round trip."""
    lag_s, *counts = STATE(client, [keys.QUEUES, keys.PERIODIC, keys.SCHEDULED_JOBS], [])
    return DelayedState(float(lag_s), {key.decode(errors="replace"): n for key, n in zip(counts[::2], counts[1::2], strict=True)})
