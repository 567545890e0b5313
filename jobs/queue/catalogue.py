"""Calling a task by its name, from a program that need not have its code.

Workers publish what they can run in the hash `turnstile:tasks`. A sender builds the job from that: the same checks, the same
options, the same job as with the code.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import msgspec
import redis
import redis.asyncio

from jobs import keys
from jobs.errors import Permanent, UnknownTask
from jobs.queue.backoff import Backoff
from jobs.queue.calling import place, place_async
from jobs.queue.job import JobSpec, unique_id
from jobs.queue.options import Options
from jobs.queue.task import REGISTRY, Task, plain

KINDS = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_KEYWORD,
)


class Card(msgspec.Struct, frozen=True):
    """What Redis knows of a task. `parameters` are [name, kind (inspect), has a default, which]."""

    path: str
    queue: str
    options: dict[str, Any]
    parameters: list[tuple[str, int, bool, Any]]
    limited: bool
    owned: bool


def publish(client: redis.Redis) -> None:
    """Makes this program's tasks callable by name, in one round trip."""
    if REGISTRY:
        client.hset(keys.TASKS, mapping={name: msgspec.json.encode(_card(task)) for name, task in REGISTRY.items()})


def send(
    client: redis.Redis,
    task_name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    now: float,
    due_at: float | None = None,
    unique_key: str | None = None,
    **options: Any,
) -> tuple[str, bool]:
    """Enqueues a job by its task's name; returns its id and whether it is new. `options` are those of `Options`.

    With a `unique_key` there is one job per task and key for as long as Redis knows it. Raises UnknownTask, InvalidField.
    """
    task = REGISTRY.get(task_name) or _from_card(task_name, client.hget(keys.TASKS, task_name))
    return place(client, _build(task, args, kwargs, options, now, due_at, unique_key), now=now, due_at=due_at)


async def send_async(
    client: redis.asyncio.Redis,
    task_name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    now: float,
    due_at: float | None = None,
    unique_key: str | None = None,
    **options: Any,
) -> tuple[str, bool]:
    """The async twin of `send`."""
    task = REGISTRY.get(task_name) or _from_card(task_name, await client.hget(keys.TASKS, task_name))
    return await place_async(client, _build(task, args, kwargs, options, now, due_at, unique_key), now=now, due_at=due_at)


def _build(
    task: Task,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    overrides: dict[str, Any],
    now: float,
    due_at: float | None,
    unique_key: str | None,
) -> JobSpec:
    job_id = None if unique_key is None else unique_id(task.name, unique_key)
    return task.build(task.options(**overrides).defaults, args, kwargs or {}, job_id=job_id, now=now, due_at=due_at)


def _card(task: Task) -> Card:
    options = asdict(replace(task.defaults, retry=None))
    parameters = [
        (parameter.name, int(parameter.kind), parameter.default is not parameter.empty, plain(parameter.default))
        for parameter in task.signature.parameters.values()
    ]
    return Card(task.path, task.queue, options, parameters, task.limited, task.owned)


def _from_card(name: str, encoded: bytes | None) -> Task:
    if encoded is None:
        raise UnknownTask(name)
    card = msgspec.json.decode(encoded, type=Card)
    parameters = [
        inspect.Parameter(parameter, KINDS[kind], default=default if optional else inspect.Parameter.empty)
        for parameter, kind, optional, default in card.parameters
    ]

    def absent(*_args: Any, **_kwargs: Any) -> None:
        raise Permanent(f"the code of {name} is not in this program")

    return Task(
        absent,
        name=name,
        queue=card.queue,
        options=Options(**card.options),
        retry=Backoff(),
        owned=card.owned,
        path=card.path,
        signature=inspect.Signature(parameters),
        limited=card.limited,
    )
