"""How dead letters leave, one or many in a MULTI: redriven or discarded, with the effects on the state that each belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import redis

from jobs import keys
from jobs.errors import InvalidField, UnknownTask
from jobs.queue import canvas_effects
from jobs.queue.hooks import Effect, add_effects
from jobs.queue.job import Call
from jobs.queue.script import beside
from jobs.queue.task import Task, by_path

REDRIVE = beside(__file__, "redrive")
DISCARD = beside(__file__, "discard")
REFUSED = "refused"
"""Stands for new arguments that do not fit."""


@dataclass(frozen=True, slots=True)
class Leaver:
    """What is known of a letter that is to leave. `queue` is empty when there is no such job."""

    id: str
    queue: str
    name: str
    group: str
    error: str
    canvas: str
    task: Task | None
    call: Call | None

    def effects(self, what: Literal["redriven", "discarded"], now: float) -> list[Effect]:
        """What its leaving means for the state that the job belongs to."""
        if what == "redriven":
            effects = canvas_effects.redriven(self.canvas, now)
        else:
            effects = canvas_effects.ended(self.canvas, what, self.error, now)
        args = self.task.arguments(self.call) if self.task and self.call else None
        if self.task is None or self.task.hooks is None or args is None:
            return effects
        hook = self.task.hooks.redriven if what == "redriven" else self.task.hooks.discarded
        return [*effects, *hook(self.id, args, now)]

    @property
    def places(self) -> list[str]:
        """The first KEYS of both scripts."""
        return [keys.job(self.id), keys.failed(self.queue), keys.results(self.id)]


def read(client: redis.Redis, ids: Sequence[str]) -> list[Leaver]:
    """The jobs, in one round trip; one that cannot be read is one that does not exist."""
    with client.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hmget(keys.job(job_id), "origin", "data", "task", "group", "error", "canvas")
        answers = pipeline.execute(raise_on_error=False)
    found = []
    for job_id, answer in zip(ids, answers, strict=True):
        origin, data, *texts = [None] * 6 if isinstance(answer, redis.exceptions.ResponseError) else answer
        name, group, error, canvas = ((text or b"").decode(errors="replace") for text in texts)
        found.append(Leaver(job_id, (origin or b"").decode(errors="replace"), name, group, error, canvas, *_call(data or b"")))
    return found


def _call(data: bytes) -> tuple[Task | None, Call | None]:
    try:
        call = Call.decode(data)
    except ValueError:
        return None, None
    try:
        return by_path(call.path), call
    except UnknownTask:
        return None, call


def edited(leaver: Leaver, args: list[Any] | None, kwargs: dict[str, Any] | None) -> str:
    """The call with other arguments. Raises InvalidField for those that the task cannot take."""
    task, call = leaver.task, leaver.call
    if task is None or call is None:
        raise InvalidField("args", "the task is not known here, so its arguments cannot be checked")
    if task.owned:
        raise InvalidField("args", f"{task.name} belongs to a state of its own: its arguments cannot be changed")
    return task.call(*(call.args if args is None else args), **(call.kwargs if kwargs is None else kwargs)).encode().decode()


def add_redrive(
    pipeline: redis.client.Pipeline, leaver: Leaver, now: float, *, data: str, by: str, record: Sequence[str] = ()
) -> int:
    """Adds a redrive to a MULTI; returns the place of redrive.lua's answer. `record` are the keys of a redrive of many."""
    place, effects = len(pipeline), leaver.effects("redriven", now)
    args = [leaver.id, leaver.queue, repr(now), data, by, "1" if effects else ""]
    REDRIVE.in_multi(pipeline, [*leaver.places, *record], args)
    if effects:
        add_effects(pipeline, effects, keys.REDRIVING, leaver.id)
        pipeline.zrem(keys.REDRIVING, leaver.id)
    return place


def add_discard(pipeline: redis.client.Pipeline, leaver: Leaver, now: float, *, by: str, record: Sequence[str] = ()) -> int:
    """Adds a discard to a MULTI; returns the place of discard.lua's answer."""
    add_effects(pipeline, leaver.effects("discarded", now), keys.failed(leaver.queue), leaver.id)
    DISCARD.in_multi(pipeline, [*leaver.places, *record], [leaver.id, repr(now), by])
    return len(pipeline) - 1
