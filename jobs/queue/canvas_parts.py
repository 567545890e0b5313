"""What a canvas is made of: calls that are not made yet, one after the other or side by side, and their way to a flat program.

The parts are values; nothing of a canvas is in Redis before it is launched.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from jobs import connections
from jobs.errors import InvalidField
from jobs.queue.canvas_handle import CanvasHandle, launch, launch_async
from jobs.queue.canvas_program import Program
from jobs.queue.job import JSON, flattened

if TYPE_CHECKING:
    from jobs.queue.task import Task  # which builds on this module

MEMBER_RESULT_TTL_S = 60
"""How long a member's job outlives its end: the canvas has its result by then."""
MAX_DEPTH = 50
MAX_NODES = 100_000


class Launchable:
    """What every part can do: be launched as a canvas of its own, and be followed by another."""

    __slots__ = ()

    def delay(self) -> CanvasHandle:
        """Launches the canvas with the Redis client of this process."""
        return launch(connections.process_client(), self)

    async def delay_async(self) -> CanvasHandle:
        """`delay` on the running event loop."""
        return await launch_async(connections.loop_client(), self)

    def program(self, now: float) -> Program:
        """The canvas compiled. Raises InvalidField for a call that cannot work."""
        return _compiled(self, now)  # type: ignore[arg-type]  # the three below are all there are

    def __or__(self, following: "Part") -> "Chain":
        check(following, given=True)
        before = self.parts if isinstance(self, Chain) else (self,)  # one chain, however many follow: no nesting
        return Chain((*before, following))


@dataclass(frozen=True, slots=True)
class Signature(Launchable):
    """A call of a task that will be made. Unless `immutable`, the result before it becomes its first argument.

    `inner` are calls that the task will make itself with the same argument in front.
    """

    task: "Task"
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    immutable: bool = False
    inner: tuple["Signature", ...] = ()

    def set(self, **options: Any) -> "Signature":
        """The same call with other options of its task."""
        return replace(self, options={**self.options, **options})


@dataclass(frozen=True, slots=True)
class Chain(Launchable):
    """Parts one after the other; each is given the result of the one before it."""

    parts: tuple["Part", ...]


@dataclass(frozen=True, slots=True)
class Group(Launchable):
    """Parts side by side; each is given what the group is given, and the list of their results is the group's."""

    parts: tuple["Part", ...]


Part: TypeAlias = Signature | Chain | Group


def signature(
    task: "Task", args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, immutable: bool = False
) -> Signature:
    """A call of the task that will be made. Raises InvalidField for a task that cannot be a member of a canvas."""
    if task.owned:
        raise InvalidField("task", f"{task.name} belongs to a state of its own: it cannot be a member of a canvas")
    return Signature(task, tuple(args), kwargs or {}, immutable=immutable)


def check(part: Part, *, given: bool, depth: int = 0) -> None:
    """Raises InvalidField for a call that its task cannot take, with one more argument where a result will be given."""
    if depth > MAX_DEPTH:
        raise InvalidField("canvas", f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(part, Signature):
        part.task.call(*_args(part, given), **part.kwargs)
        for call in part.inner:
            check(call, given=given, depth=depth + 1)
    elif isinstance(part, Chain | Group):
        for number, child in enumerate(part.parts):
            check(child, given=given or (isinstance(part, Chain) and number > 0), depth=depth + 1)
    else:
        raise InvalidField("canvas", f"a signature, chain, group or chord is needed, not {type(part).__name__}")


def _args(call: Signature, given: bool) -> tuple[Any, ...]:
    return (None, *call.args) if given and not call.immutable else call.args


def _compiled(root: Part, now: float) -> Program:
    check(root, given=False)
    program, known = Program(), dict[str, int]()
    waiting: deque[tuple[Part, int, bool]] = deque([(root, -1, False)])
    n_seen = 1
    while waiting:
        part, parent, given = waiting.popleft()
        if isinstance(part, Signature):
            takes = given and not part.immutable
            args, kwargs = JSON.encode(part.args)[1:-1].encode(), JSON.encode(part.kwargs).encode()
            head = b"j %d %d %d %d " % (parent, _template(program, known, part, given, now), takes, len(args))
            program.nodes.append(head + args + kwargs)
            program.n_jobs += 1
            continue
        node, in_turn = len(program.nodes), isinstance(part, Chain)
        program.nodes.append(b"%s %d %d %d" % (b"s" if in_turn else b"p", parent, n_seen, len(part.parts)))
        n_seen += len(part.parts)
        if n_seen > MAX_NODES:
            raise InvalidField("canvas", f"more than {MAX_NODES} nodes")
        waiting.extend((child, node, given or (in_turn and number > 0)) for number, child in enumerate(part.parts))
    return program


def _template(program: Program, known: dict[str, int], call: Signature, given: bool, now: float) -> int:
    """The number of the template for this call: one for all calls of a task with the same options."""
    key = f"{call.task.name} {sorted(call.options.items())!r}"
    if key not in known:
        options = call.task.options(**call.options).defaults
        if options.unique:
            raise InvalidField(
                "task", f"{call.task.name} is unique: a call that stands for another cannot be a member of a canvas"
            )
        if options.result_ttl_s is None:
            options = replace(options, result_ttl_s=MEMBER_RESULT_TTL_S, ignore_result=False)
        job = call.task.build(options, _args(call, given), call.kwargs, job_id="template", now=now)
        fields = dict(zip(job.flat[::2], job.flat[1::2], strict=True))
        for own in ("data", "expires_at"):
            fields.pop(own, None)
        fields.update(description=call.task.name, success_callback_name="jobs.queue.stock.on_success")
        head = JSON.encode([call.task.path, None, []]).removesuffix("]]")
        expires_s = "" if options.expires_s is None else repr(options.expires_s)
        known[key] = len(program.templates)
        program.templates.append(
            JSON.encode([head, job.queue, expires_s, JSON.encode(flattened(fields)), call.task.name]).encode()
        )
    return known[key]
