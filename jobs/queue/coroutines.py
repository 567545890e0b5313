"""Runs the coroutine of a job so that it can be interrupted from outside, wherever it awaits.

asyncio knows only cancellation. `run` turns the cancellation of its own task into the interruption, raised at the await where
the job's code is, which may catch it as any exception.
"""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

from jobs.errors import JobInterrupted


class Interruptible:
    """One awaitable of a job."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable
        self._reason: JobInterrupted | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = False

    def interrupt(self, reason: JobInterrupted) -> None:
        """Raises `reason` inside the coroutine at its next await; called on any thread, and from signal handlers."""
        self._reason = reason
        if self._task is not None and not self._task.done():
            self._task.get_loop().call_soon_threadsafe(self._cancel)

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
            try:
                waits_for = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
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
