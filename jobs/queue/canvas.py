"""Canvas: jobs that follow from one another, as Celery's canvas has them, put together before any of them exists.

A part is `task.s(...)` or anything built here; parts nest in one another. A result is the first argument of what follows.
"""

import asyncio
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from jobs.errors import InvalidField, Permanent, UnknownTask
from jobs.queue.canvas_parts import Chain, Group, Part, Signature, check, signature
from jobs.queue.task import Task, by_name, task


def chain(*parts: Part) -> Chain:
    """One after the other; each is given the result before it."""
    if not parts:
        raise InvalidField("parts", "a chain needs at least one part")
    for part in parts[1:]:
        check(part, given=True)
    return Chain(parts)


def group(*parts: Part | Iterable[Part]) -> Group:
    """Side by side, given as arguments or as one iterable; the result is the list of theirs."""
    if len(parts) == 1 and not isinstance(parts[0], Signature | Chain | Group):
        return Group(tuple(parts[0]))
    return Group(parts)  # type: ignore[arg-type]  # an iterable among several is refused by `check`


def chord(header: Part | Iterable[Part], callback: Part) -> Chain:
    """A group, and a callback that is given the list of its results once all members have succeeded."""
    return chain(header if isinstance(header, Group) else group(header), callback)


def map(called: Task, items: Iterable[Any]) -> Group:
    """A member for each item, its argument."""
    return Group(tuple(signature(called, (item,)) for item in items))


def starmap(called: Task, items: Iterable[Sequence[Any]]) -> Group:
    """A member for each item, the list of its arguments."""
    return Group(tuple(signature(called, item) for item in items))


def chunks(called: Task, items: Iterable[Sequence[Any]], n: int) -> Group:
    """Members that make n calls each; an item is the list of a call's arguments, the result a list of lists."""
    if n < 1:
        raise InvalidField("n", "at least 1 is needed")
    calls = tuple(signature(called, item) for item in items)
    options = {"queue": called.queue, "time_limit_s": called.defaults.time_limit_s * n}
    parts = (calls[start : start + n] for start in range(0, len(calls), n))
    return Group(
        tuple(
            Signature(chunk, (), {"task": called.name, "calls": [call.args for call in part]}, options, inner=part)
            for part in parts
        )
    )


@task(name="canvas.chunk")
def chunk(*given: Any, task: str, calls: list[list[Any]]) -> list[Any]:
    """Makes several calls of a task in one job; each is given what the member is given."""
    try:
        function = by_name(task).function
    except UnknownTask as error:
        raise Permanent(str(error)) from error
    return [_result(function(*given, *call)) for call in calls]


def _result(returned: Any) -> Any:
    return asyncio.run(_awaited(returned)) if inspect.isawaitable(returned) else returned


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
