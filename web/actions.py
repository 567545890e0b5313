"""What the buttons of the operations page do, and what is asked before those whose deed is for good."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import redis

from jobs import keys
from jobs.errors import InvalidField, NotFound
from jobs.queue import audit as trail
from jobs.queue import control, dead_letters, delayed, job_store, overview, redrives, schedules
from jobs.setting_values import Range
from web.html import utc

Form = Mapping[str, str]


def _switch_queue(what: Literal["pause", "resume"], client: redis.Redis, form: Form, by: str) -> None:
    name = form["target"]
    if name not in overview.queue_names(client):
        raise NotFound("queue", name)
    (overview.pause if what == "pause" else overview.resume)(client, name)
    trail.record(client, f"{what} queue", who=by, target=name)


def _redrive_group(client: redis.Redis, form: Form, by: str) -> None:
    group = form["target"]
    if not client.exists(keys.dead_group(group)):
        raise NotFound("group of dead letters", group)
    redrives.request(client, "redrive", by=by, group=group)


def _scale_pool(client: redis.Redis, form: Form, by: str) -> None:
    try:
        wanted = Range.parse(form.get("range", ""))
    except ValueError as error:
        raise InvalidField("range", str(error)) from None
    control.scale(client, form["target"], wanted, by=by)


def _ask_discard(client: redis.Redis, target: str) -> dict[str, Any]:
    letter = dead_letters.get(client, target)
    return {
        "question": "Discard this dead letter?",
        "facts": {"Job": letter.id, "Task": letter.task, "Queue": letter.queue, "Error": f"{letter.error_type}: {letter.error}"},
        "consequence": "It is deleted for good. Its order, if it has one, stays dead, and the stock reserved for it is released.",
        "verb": "Discard",
    }


def _ask_cancel(client: redis.Redis, target: str) -> dict[str, Any]:
    job = job_store.get(client, target)
    return {
        "question": "Cancel this job?",
        "facts": {"Job": job.id, "Task": job.task, "Queue": job.queue, "Due": utc(job.due_at) if job.due_at else job.status},
        "consequence": "A cancelled job never runs.",
        "verb": "Cancel the job",
    }


QUESTIONS: dict[str, Callable[[redis.Redis, str], dict[str, Any]]] = {"discard": _ask_discard, "cancel-delayed": _ask_cancel}
"""Actions that are asked about first, and what confirm.html asks; it raises NotFound when there is nothing to ask about."""
ACTIONS: dict[str, tuple[str, Callable[[redis.Redis, Form, str], object]]] = {
    "pause-queue": ("queues", partial(_switch_queue, "pause")),
    "resume-queue": ("queues", partial(_switch_queue, "resume")),
    "redrive": ("dead-letters", lambda client, form, by: dead_letters.redrive(client, form["target"], by=by)),
    "redrive-group": ("dead-letters", _redrive_group),
    "discard": ("dead-letters", lambda client, form, by: dead_letters.discard(client, form["target"], by=by)),
    "run-schedule": ("periodic", lambda client, form, by: schedules.act(client, "run", form["target"], time.time(), by=by)),
    "pause-schedule": ("periodic", lambda client, form, by: schedules.act(client, "pause", form["target"], time.time(), by=by)),
    "resume-schedule": ("periodic", lambda client, form, by: schedules.act(client, "resume", form["target"], time.time(), by=by)),
    "run-delayed": ("delayed", lambda client, form, by: delayed.run_now(client, form["target"], time.time(), by=by)),
    "cancel-delayed": ("delayed", lambda client, form, by: delayed.cancel(client, form["target"], time.time(), by=by)),
    "scale-pool": ("workers", _scale_pool),
    "unscale-pool": ("workers", lambda client, form, by: control.scale(client, form["target"], None, by=by)),
    "stop-worker": ("workers", lambda client, form, by: control.stop(client, form["target"], by=by)),
    "restart-worker": ("workers", lambda client, form, by: control.restart(client, form["target"], by=by)),
}
"""The part of the page that a button leads back to, and what it does, with whose name in the audit trail."""
