"""Dead letters: RQ's FailedJobRegistry made safe. They never expire; they leave by redrive or discard, atomically.

Beyond the bounds of the settings the scheduler discards the oldest, and says so. Many at once: redrives.py.
"""

import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec
import redis

from jobs import crash_points, keys
from jobs.errors import Conflict, NotFound
from jobs.queue import attempts, audit, canvas_effects, leaving
from jobs.queue.attempts import Attempt
from jobs.queue.cursor import STEP, walk
from jobs.queue.hooks import add_effects
from jobs.queue.job import Call
from jobs.queue.script import beside

ADOPT = beside(__file__, "adopt")
SEARCHED = 2_000
"""Letters that one search looks at; its cursor leads on from there."""
GROUPS_SHOWN = 500
MAX_INSTANT = 1e11


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


def page(
    client: redis.Redis, *, group: str | None, cursor: str | None, limit: int, search: str | None = None
) -> tuple[list[DeadLetter], str | None]:
    """Dead letters, the newest first, and the cursor of the next page. Raises InvalidField for a cursor that is none.

    `search` is looked for, in any case, in id, task, error type, message and arguments. It looks at a bounded number of letters:
    there may be a next page after one that is not full.
    """
    found: list[DeadLetter] = []
    members, looked = walk(client, keys.DEAD if group is None else keys.dead_group(group), cursor), 0
    while looked < SEARCHED:
        marks = dict(islice(members, limit if search is None else STEP))
        if not marks:
            return found, None
        looked += len(marks)
        for letter in _read(client, _matching(client, list(marks), search)):
            found.append(letter)
            if len(found) == limit:
                return found, marks[letter.id]
        cursor = list(marks.values())[-1]
    return found, cursor


def groups(client: redis.Redis) -> list[Group]:
    """Dead letters by task and error: the GROUPS_SHOWN largest groups, the largest first."""
    sizes = client.zrange(keys.DEAD_SIZES, 0, GROUPS_SHOWN - 1, desc=True, withscores=True)
    facts = client.hmget(keys.DEAD_GROUPS, [name for name, _size in sizes]) if sizes else []
    return [_group(name, said, int(size)) for (name, size), said in zip(sizes, facts, strict=True) if said]


def _group(name: bytes, said: bytes, size: int) -> Group:
    task, error_type, error = said.decode(errors="replace").split("\n", 2)
    return Group(name.decode(), task, error_type, error, size)


def get(client: redis.Redis, job_id: str) -> DeadLetter:
    """One dead letter. Raises NotFound."""
    if client.zscore(keys.DEAD, job_id) is not None:
        for letter in _read(client, [job_id]):
            return letter
    raise NotFound("dead letter", job_id)


def redrive(
    client: redis.Redis, job_id: str, *, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None, by: str = ""
) -> None:
    """Puts a dead letter back on its queue with a fresh budget; an order goes on at the step that failed.

    `by` is who does it, for the audit trail. Raises NotFound, also when somebody else was first, InvalidField for arguments that
    the task cannot take, and Conflict while another job has the lock of a unique one.
    """
    leaver = _leaver(client, job_id)
    data = "" if args is None and kwargs is None else leaving.edited(leaver, args, kwargs)
    with client.pipeline(transaction=True) as pipeline:
        place = leaving.add_redrive(pipeline, leaver, time.time(), data=data, by=by)
        crash_points.reach("redrive.read")
        answer = pipeline.execute()[place]
    crash_points.reach("redrive.written")
    if not answer:
        raise NotFound("dead letter", job_id)
    if isinstance(answer, bytes):
        raise Conflict(f"job {answer.decode()} does the same and has not ended")
    if by:
        audit.say("redrive", who=by, target=job_id)


def discard(client: redis.Redis, job_id: str, *, by: str = "") -> None:
    """Deletes a dead letter for good; what its order had reserved is released. Raises NotFound."""
    with client.pipeline(transaction=True) as pipeline:
        place = leaving.add_discard(pipeline, _leaver(client, job_id), time.time(), by=by)
        crash_points.reach("discard.read")
        if not pipeline.execute()[place]:
            raise NotFound("dead letter", job_id)
    crash_points.reach("discard.written")
    if by:
        audit.say("discard", who=by, target=job_id)


def _leaver(client: redis.Redis, job_id: str) -> leaving.Leaver:
    [leaver] = leaving.read(client, [job_id])
    if not leaver.queue:
        raise NotFound("dead letter", job_id)
    return leaver


def adopt(client: redis.Redis, queue: str, job_id: str, now: float) -> bool:
    """Makes a dead letter with a group of a job that only RQ has put away as failed; False when there is none (any more)."""
    [fields] = _hashes(client, [job_id])
    letter = _letter(job_id, fields)
    args = [letter.group, letter.task, letter.error_type, letter.error] if fields else []
    died_at = fields.get(b"died_at") or repr(now)
    canvas = fields.get(b"canvas", b"").decode()
    with client.pipeline(transaction=True) as pipeline:
        add_effects(pipeline, canvas_effects.ended(canvas, "dead", args[-1] if args else "", now), keys.failed(queue), job_id)
        ADOPT.in_multi(pipeline, [keys.job(job_id), keys.failed(queue)], [job_id, died_at, *args])
        crash_points.reach("adopt.read")
        return bool(pipeline.execute()[-1])


def _matching(client: redis.Redis, ids: list[str], search: str | None) -> list[str]:
    """Those of the jobs that hold the text; all of them without one."""
    if search is None:
        return ids
    with client.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hmget(keys.job(job_id), "task", "error_type", "error", "data")
        answers = pipeline.execute(raise_on_error=False)
    wanted, read = search.casefold(), zip(ids, answers, strict=True)
    return [job_id for job_id, answer in read if isinstance(answer, list) and wanted in _searched(job_id, *answer)]


def _searched(job_id: str, *fields: bytes | None) -> str:
    *texts, data = [field or b"" for field in fields]
    try:
        call = Call.decode(data)
        texts.append(msgspec.json.encode([call.path, call.args, call.kwargs]))
    except ValueError:
        pass  # what cannot be read has no arguments to be found by
    return "\n".join([job_id, *(text.decode(errors="replace") for text in texts)]).casefold()


def _read(client: redis.Redis, ids: list[str]) -> list[DeadLetter]:
    """The letters that have a job."""
    return [_letter(job_id, fields) for job_id, fields in zip(ids, _hashes(client, ids), strict=True) if fields]


def _hashes(client: redis.Redis, ids: list[str]) -> list[Mapping[bytes, bytes]]:
    """The jobs' hashes; an empty one where there is none."""
    with client.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hgetall(keys.job(job_id))
        return [found if isinstance(found, dict) else {} for found in pipeline.execute(raise_on_error=False)]


def _letter(job_id: str, fields: Mapping[bytes, bytes]) -> DeadLetter:
    def text(name: bytes) -> str:
        return fields.get(name, b"").decode(errors="replace")

    try:
        call: Call | None = Call.decode(fields.get(b"data", b""))
    except ValueError:
        call = None
    task = text(b"task") or (call.path if call else "unreadable")
    error_type, error = text(b"error_type") or "Unknown", text(b"error") or "failed under a stock worker"
    return DeadLetter(
        id=job_id,
        task=task,
        queue=text(b"origin"),
        group=text(b"group") or attempts.fingerprint(task, error_type, error),
        error_type=error_type,
        error=error,
        died_at=_seconds(text(b"died_at")),
        redrives=int(text(b"redrives")) if text(b"redrives").isdecimal() else 0,
        args=list(call.args) if call else None,
        kwargs=dict(call.kwargs) if call else None,
        attempts=attempts.read(fields.get(b"attempts", b"")),
    )


def _seconds(text: str) -> float:
    """An instant that a calendar has; 0 for what is none."""
    try:
        return at if 0 <= (at := float(text)) < MAX_INSTANT else 0.0
    except ValueError:
        return 0.0
