"""Calling a task by its name, from a program that need not have its code.

Workers publish what they can run in the hash `turnstile:tasks`. A sender builds the job from that: the same checks, the same
options, the same job as with the code.
"""

import inspect
from dataclasses import asdict, replace
from typing import Any

import msgspec
import redis
import redis.asyncio

from jobs import connections, keys
from jobs.errors import InvalidField, Permanent, UnknownTask
from jobs.queue.arguments import plain
from jobs.queue.backoff import Backoff
from jobs.queue.handle import JobHandle
from jobs.queue.options import Options, check_queue
from jobs.queue.task import REGISTRY, Task

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


def find(client: redis.Redis, name: str) -> Task:
    """The task of that name, of this program or of its workers. Raises UnknownTask, InvalidField for an unreadable entry."""
    return REGISTRY.get(name) or _from_card(name, client.hget(keys.TASKS, name))


async def find_async(client: redis.asyncio.Redis, name: str) -> Task:
    """The async twin of `find`."""
    return REGISTRY.get(name) or _from_card(name, await client.hget(keys.TASKS, name))


def send(name: str, /, *args: Any, **kwargs: Any) -> JobHandle:
    """Enqueues a call of the task of that name. With options: `find(client, name).options(...).delay(...)`."""
    return find(connections.process_client(), name).delay(*args, **kwargs)


async def send_async(name: str, /, *args: Any, **kwargs: Any) -> JobHandle:
    """The async twin of `send`."""
    return await (await find_async(connections.loop_client(), name)).delay_async(*args, **kwargs)


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
    try:
        card = msgspec.json.decode(encoded, type=Card)
        parameters = [
            inspect.Parameter(parameter, KINDS[kind], default=default if optional else inspect.Parameter.empty)
            for parameter, kind, optional, default in card.parameters
        ]
        signature, options = inspect.Signature(parameters), Options(**card.options)
        check_queue(card.queue)
    except (ValueError, TypeError, IndexError, InvalidField) as error:  # damaged, or of a worker with other code than ours
        reason = f"the entry of {name} in turnstile:tasks cannot be read ({error}); a worker that starts writes it anew"
        raise InvalidField("task", reason) from error

    def absent(*_args: Any, **_kwargs: Any) -> None:
        raise Permanent(f"the code of {name} is not in this program")

    return Task(
        absent,
        name=name,
        queue=card.queue,
        options=options,
        retry=Backoff(),
        owned=card.owned,
        path=card.path,
        signature=signature,
        limited=card.limited,
    )
