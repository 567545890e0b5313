"""Runs the coroutine of a job so that it can be interrupted from outside, wherever it awaits.

asyncio knows only cancellation. `run` turns the cancellation of its own task into the interruption, raised at the await where
the job's code is, which may catch it as any exception. Code that does not await, and so blocks the loop, is struck by a signal.
"""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

from jobs.errors import JobInterrupted

SPARED = (__name__, "weakref", "_weakrefset")
"""Modules in whose code nothing is raised: this one, and callbacks of the garbage collector, where exceptions get lost."""


class Interruptible:
    """One awaitable of a job."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable
        self._reason: JobInterrupted | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = False
        self._inside = False
        """Whether the awaitable's own code runs, and not asyncio's or this module's."""
        self._struck: JobInterrupted | None = None

    @property
    def pending(self) -> bool:
        """Whether an interruption has not been raised yet: when it stays so, something blocks the loop."""
        return self._reason is not None

    def interrupt(self, reason: JobInterrupted) -> None:
        """Raises `reason` inside the coroutine at its next await; called on any thread, and from signal handlers."""
        self._reason = reason
        if self._task is not None and not self._task.done():
            self._task.get_loop().call_soon_threadsafe(self._cancel)

    def strike(self, current: "asyncio.Task[Any] | None", module: str) -> None:
        """Raises what is pending where the job's code is; called by a signal handler on the loop's thread.

        `current` is the task that the loop runs, `module` the one whose code was interrupted. A task that the job has started
        is struck once for each interruption, which the job itself still gets at its await.
        """
        reason = self._reason
        if reason is None or reason is self._struck or current is None or self._task is None or module in SPARED:
            return  # without its task the coroutine has not begun: it will find the reason
        if current is not self._task:
            self._struck = reason
        elif self._inside:
            self._reason = None
        else:
            return
        raise reason

    async def run(self) -> Any:
        """The result of the awaitable."""
        self._task = asyncio.current_task()
        try:
            return await self
        except BaseExceptionGroup as group:  # a TaskGroup packs what is raised in its body
            raise _interruption(group) or group from None

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._awaitable.__await__()
        value: Any = None
        error: BaseException | None = self._reason  # came before there was anything to cancel
        self._reason = None
        while True:
            self._inside = True
            try:
                waits_for = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                self._inside = False
            value = error = None
            try:
                value = yield waits_for
            except asyncio.CancelledError as cancelled:
                error = self._replaced(cancelled)
            except BaseException as thrown:  # noqa: BLE001  passed on into the coroutine, as awaiting it directly would
                error = thrown

    def _cancel(self) -> None:
        if self._task is not None and self._reason is not None and not self._cancelling:
            self._cancelling = self._task.cancel()

    def _replaced(self, cancelled: asyncio.CancelledError) -> BaseException:
        reason, self._reason, self._cancelling = self._reason, None, False
        if reason is None:
            return cancelled
        if self._task is not None:
            self._task.uncancel()
        return reason


def _interruption(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    found: BaseException | None = group.subgroup(JobInterrupted)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
