"""Dead letters: RQ's FailedJobRegistry made safe. They never expire; they leave by redrive or discard, atomically."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
import redis

from jobs import keys
from jobs.errors import InvalidField, NotFound, UnknownTask
from jobs.queue import attempts
from jobs.queue.attempts import Attempt
from jobs.queue.cursor import Cursor
from jobs.queue.ending import add_effects
from jobs.queue.hooks import Hooks
from jobs.queue.job import Call
from jobs.queue.script import beside
from jobs.queue.task import Task, by_path

REDRIVE = beside(__file__, "redrive")
DISCARD = beside(__file__, "discard")
PAGE = 500


class DeadLetter(msgspec.Struct, frozen=True):
    """A job that will not be tried again by itself. `died_at` is Unix seconds, `group` its fingerprint."""

    id: str
    task: str
    queue: str
    group: str
    error_type: str
    error: str
    died_at: float
    redrives: int
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    attempts: list[Attempt]


class Group(msgspec.Struct, frozen=True):
    """Dead letters of one task that died of the same error."""

    group: str
    task: str
    error_type: str
    error: str
    count: int


def count(client: redis.Redis) -> int:
    """How many dead letters there are."""
    return int(client.zcard(keys.DEAD))


def page(client: redis.Redis, *, group: str | None, cursor: str | None, limit: int) -> tuple[list[DeadLetter], str | None]:
    """Dead letters, the newest first, and the cursor of the next page. Raises InvalidField for a cursor that is none."""
    found: list[DeadLetter] = []
    start, offset = Cursor.parse(cursor), 0
    while batch := client.zrange(
        keys.DEAD, start.score, "-inf", byscore=True, desc=True, offset=offset, num=PAGE, withscores=True
    ):
        offset += len(batch)
        marked = start.after(batch)
        for letter, (_job_id, mark) in zip(_read(client, [job_id for job_id, _mark in marked]), marked, strict=True):
            if letter is not None and group in (None, letter.group):
                found.append(letter)
                if len(found) == limit:
                    return found, mark
    return found, None


def groups(client: redis.Redis) -> list[Group]:
    """All dead letters by task and error, the largest group first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    shown: dict[str, str] = {}
    for letter in _all(client):
        counts[(letter.group, letter.task, letter.error_type)] += 1
        shown.setdefault(letter.group, letter.error)
    return [Group(group, task, kind, shown[group], number) for (group, task, kind), number in counts.most_common()]


def get(client: redis.Redis, job_id: str) -> DeadLetter:
    """One dead letter. Raises NotFound."""
    if client.zscore(keys.DEAD, job_id) is not None:
        letter = _read(client, [job_id])[0]
        if letter is not None:
            return letter
    raise NotFound("dead letter", job_id)


def redrive(
    client: redis.Redis,
    job_id: str,
    *,
    args: list[Any] | None = None,
    kwargs: dict[str, Any] | None = None,
    delay_s: float = 0.0,
) -> None:
    """Puts a dead letter back on its queue with a fresh budget; an order goes on at the step that failed.

    Raises NotFound, also when somebody else was first, and InvalidField for arguments that the task cannot take.
    """
    fields, task, call = _stored(client, job_id)
    queue, now = fields[b"origin"].decode(), time.time()
    data = ""
    if args is not None or kwargs is not None:
        data = _edited(task, call, args, kwargs)
    with client.pipeline(transaction=True) as pipeline:
        if (state := _state_of(task, call)) is not None:
            add_effects(pipeline, state[0].redriven(job_id, state[1], now), keys.failed(queue), job_id)
        REDRIVE.in_multi(
            pipeline,
            [keys.job(job_id), keys.failed(queue), keys.results(job_id), keys.DEAD],
            [job_id, queue, repr(now), data, repr(now + delay_s)],
        )
        if not pipeline.execute()[-1]:
            raise NotFound("dead letter", job_id)


def redrive_all(client: redis.Redis, *, group: str | None, rate_per_s: float | None) -> int:
    """Redrives the dead letters of one group or all, the oldest first, spread over time at the rate; returns how many.

    Killed in the middle it can simply be called again: what was redriven is no dead letter any more.
    """
    chosen = [letter.id for letter in reversed(_all(client)) if group is None or letter.group == group]
    done = 0
    for job_id in chosen:
        try:
            redrive(client, job_id, delay_s=done / rate_per_s if rate_per_s else 0.0)
        except NotFound:
            continue  # somebody else redrove or discarded it in the meantime
        done += 1
    return done


def discard(client: redis.Redis, job_id: str) -> None:
    """Deletes a dead letter for good; what its order had reserved is released. Raises NotFound."""
    fields, task, call = _stored(client, job_id)
    queue = fields[b"origin"].decode()
    with client.pipeline(transaction=True) as pipeline:
        if (state := _state_of(task, call)) is not None:
            add_effects(pipeline, state[0].discarded(job_id, state[1], time.time()), keys.failed(queue), job_id)
        DISCARD.in_multi(
            pipeline,
            [keys.job(job_id), keys.failed(queue), keys.results(job_id), keys.DEAD],
            [job_id],
        )
        if not pipeline.execute()[-1]:
            raise NotFound("dead letter", job_id)


def _stored(client: redis.Redis, job_id: str) -> tuple[Mapping[bytes, bytes], Task | None, Call | None]:
    fields: Mapping[bytes, bytes] = client.hgetall(keys.job(job_id))
    if b"origin" not in fields:
        raise NotFound("dead letter", job_id)
    try:
        call = Call.decode(fields.get(b"data", b""))
    except ValueError:
        return fields, None, None
    try:
        return fields, by_path(call.path), call
    except UnknownTask:
        return fields, None, call


def _state_of(task: Task | None, call: Call | None) -> tuple[Hooks, tuple[Any, ...]] | None:
    """The hooks of the state that the job belongs to, with the arguments that name it."""
    if task is None or task.hooks is None or call is None:
        return None
    args = task.arguments(call)
    return None if args is None else (task.hooks, args)


def _edited(task: Task | None, call: Call | None, args: list[Any] | None, kwargs: dict[str, Any] | None) -> str:
    if task is None or call is None:
        raise InvalidField("args", "the task is not known here, so its arguments cannot be checked")
    if task.owned:
        raise InvalidField("args", f"{task.name} belongs to a state of its own: its arguments cannot be changed")
    return task.call(*(call.args if args is None else args), **(call.kwargs if kwargs is None else kwargs)).encode().decode()


def _all(client: redis.Redis) -> list[DeadLetter]:
    ids = [job_id.decode() for job_id in client.zrange(keys.DEAD, 0, -1, desc=True)]
    found: list[DeadLetter] = []
    for start in range(0, len(ids), PAGE):
        found += [letter for letter in _read(client, ids[start : start + PAGE]) if letter is not None]
    return found


def _read(client: redis.Redis, ids: list[str]) -> list[DeadLetter | None]:
    with client.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hgetall(keys.job(job_id))
        return [_letter(job_id, fields) for job_id, fields in zip(ids, pipeline.execute(), strict=True)]


def _letter(job_id: str, fields: Mapping[bytes, bytes]) -> DeadLetter | None:
    if not fields:
        return None

    def text(name: bytes) -> str:
        return fields.get(name, b"").decode(errors="replace")

    try:
        call: Call | None = Call.decode(fields.get(b"data", b""))
    except ValueError:
        call = None
    history = attempts.read(fields.get(b"attempts", b""))
    task = text(b"task") or (call.path if call else "unreadable")
    error_type, error = text(b"error_type") or "Unknown", text(b"error") or "failed under a stock worker"
    return DeadLetter(
        id=job_id,
        task=task,
        queue=text(b"origin"),
        group=text(b"group") or attempts.fingerprint(task, error_type, error),
        error_type=error_type,
        error=error,
        died_at=float(text(b"died_at") or 0),
        redrives=int(text(b"redrives") or 0),
        args=list(call.args) if call else None,
        kwargs=dict(call.kwargs) if call else None,
        attempts=history,
    )
