"""Interrupting a coroutine from outside: raised at its await, caught there like any exception, and asyncio goes on as it does."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest

from jobs.errors import DrainTimeout, JobInterrupted, SoftTimeLimitExceeded
from jobs.queue.coroutines import Interruptible

SOFT = SoftTimeLimitExceeded(0.1)
FOREVER_S = 3_600.0


async def interrupted(
    code: Callable[["asyncio.Event"], Coroutine[Any, Any, Any]], *reasons: JobInterrupted, after: asyncio.Event | None = None
) -> Any:
    """Runs the code and interrupts it once it has set its event, and is blocked in an await."""
    ready = asyncio.Event()
    running = Interruptible(code(ready))
    task = asyncio.create_task(running.run())
    await ready.wait()
    await asyncio.sleep(0)
    for reason in reasons or (SOFT,):
        running.interrupt(reason)
    return await asyncio.wait_for(task, 5)


def test_an_interruption_is_raised_at_the_await_and_no_except_exception_swallows_it() -> None:
    async def code(ready: asyncio.Event) -> str:
        ready.set()
        try:
            await asyncio.sleep(FOREVER_S)
        except Exception:  # noqa: BLE001  what many tasks do
            return "swallowed"
        return "slept"

    with pytest.raises(SoftTimeLimitExceeded):
        asyncio.run(interrupted(code))


def test_code_that_catches_the_interruption_goes_on() -> None:
    async def code(ready: asyncio.Event) -> list[str]:
        ready.set()
        try:
            await asyncio.sleep(FOREVER_S)
        except SoftTimeLimitExceeded:
            task = asyncio.current_task()
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await asyncio.sleep(0.001)
            return ["caught", str(task.cancelling() if task else None)]
        return []

    assert asyncio.run(interrupted(code)) == ["caught", "0"]


def test_each_of_several_interruptions_is_raised_when_its_time_comes() -> None:
    async def code(ready: asyncio.Event) -> list[str]:
        seen = []
        for _ in range(2):
            ready.set()
            try:
                await asyncio.sleep(FOREVER_S)
            except JobInterrupted as reason:
                seen.append(type(reason).__name__)
        return seen

    async def twice() -> Any:
        ready = asyncio.Event()
        running = Interruptible(code(ready))
        task = asyncio.create_task(running.run())
        for reason in (SOFT, DrainTimeout()):
            await ready.wait()
            ready.clear()
            await asyncio.sleep(0)
            running.interrupt(reason)
        return await asyncio.wait_for(task, 5)

    assert asyncio.run(twice()) == ["SoftTimeLimitExceeded", "DrainTimeout"]


def test_two_interruptions_at_one_moment_are_one_and_leave_no_cancellation_behind() -> None:
    async def code(ready: asyncio.Event) -> tuple[str, int]:
        ready.set()
        try:
            await asyncio.sleep(FOREVER_S)
        except JobInterrupted as reason:
            await asyncio.sleep(0.01)
            task = asyncio.current_task()
            return type(reason).__name__, task.cancelling() if task else -1
        return "", -1

    assert asyncio.run(interrupted(code, SOFT, DrainTimeout())) == ("DrainTimeout", 0)


def test_an_interruption_that_comes_before_the_first_await_is_not_lost() -> None:
    async def code() -> None:
        await asyncio.sleep(FOREVER_S)

    async def early() -> None:
        running = Interruptible(code())
        running.interrupt(SOFT)
        await asyncio.wait_for(running.run(), 5)

    with pytest.raises(SoftTimeLimitExceeded):
        asyncio.run(early())


def test_an_interruption_that_comes_too_late_is_dropped() -> None:
    async def late() -> Any:
        running = Interruptible(asyncio.sleep(0, "done"))
        result = await asyncio.create_task(running.run())
        running.interrupt(SOFT)
        await asyncio.sleep(0.01)
        return result

    assert asyncio.run(late()) == "done"


def struck(running: Interruptible, module: str = "a_job") -> None:
    """What the signal handler does in the code that blocks the loop."""
    running.strike(asyncio.current_task(), module)


def test_code_that_does_not_await_is_struck_where_it_is_and_only_once() -> None:
    async def code() -> list[str]:
        seen = []
        for _ in range(2):
            try:
                struck(running)
            except SoftTimeLimitExceeded:
                seen.append(f"struck {running.pending}")
        await asyncio.sleep(0.01)
        task = asyncio.current_task()
        return [*seen, str(task.cancelling() if task else None)]

    async def interrupts_itself() -> list[str]:
        running.interrupt(SOFT)
        return await code()

    running = Interruptible(interrupts_itself())
    assert asyncio.run(running.run()) == ["struck False", "0"]


def test_a_strike_hits_neither_other_tasks_code_nor_that_which_runs_the_job() -> None:
    async def code() -> str:
        running.interrupt(SOFT)
        struck(running, "jobs.queue.coroutines")
        running.strike(None, "a_job")
        try:
            await asyncio.sleep(FOREVER_S)
        except SoftTimeLimitExceeded:
            struck(running)
            return "at its await"
        return ""

    running = Interruptible(code())
    assert asyncio.run(running.run()) == "at its await"


def test_a_strike_before_the_first_step_waits_for_it() -> None:
    async def early() -> None:
        running = Interruptible(asyncio.sleep(FOREVER_S))
        running.interrupt(SOFT)
        struck(running)
        await running.run()

    with pytest.raises(SoftTimeLimitExceeded) as caught:
        asyncio.run(early())
    assert "__await__" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_a_task_that_the_job_has_started_is_struck_once_and_the_job_too() -> None:
    async def child(seen: list[str]) -> None:
        running.interrupt(SOFT)
        for _ in range(2):
            try:
                struck(running)
            except SoftTimeLimitExceeded:
                seen.append("child")

    async def code() -> list[str]:
        seen: list[str] = []
        try:
            started = asyncio.create_task(child(seen))
            await asyncio.sleep(FOREVER_S)
        except SoftTimeLimitExceeded:
            await started
            seen.append("job")
        return seen

    running = Interruptible(code())
    assert asyncio.run(running.run()) == ["child", "job"]


def test_results_and_exceptions_pass_through() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    assert asyncio.run(Interruptible(asyncio.sleep(0, 3)).run()) == 3
    with pytest.raises(ValueError, match="no"):
        asyncio.run(Interruptible(fails()).run())


def test_what_is_awaited_need_not_be_a_coroutine() -> None:
    class Ready:
        def __await__(self) -> Any:
            return asyncio.sleep(0, "ready").__await__()

    async def future() -> Any:
        made: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(made.set_result, 7)
        return await Interruptible(made).run()

    ready: Awaitable[str] = Ready()
    assert asyncio.run(Interruptible(ready).run()) == "ready"
    assert asyncio.run(future()) == 7


def test_ordinary_cancellation_still_cancels() -> None:
    async def cancelled() -> bool:
        task = asyncio.create_task(Interruptible(asyncio.sleep(FOREVER_S)).run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(cancelled())


def test_timeouts_gather_task_groups_and_generators_work_inside() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    async def code() -> list[Any]:
        found: list[Any] = [number async for number in numbers()]
        found += await asyncio.gather(asyncio.sleep(0.001, "a"), asyncio.sleep(0, "b"))
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(FOREVER_S)
        except TimeoutError:
            found.append("timeout")
        try:
            await asyncio.wait_for(asyncio.sleep(FOREVER_S), 0.001)
        except TimeoutError:
            found.append("wait_for")
        async with asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(0, "child"))
        found += [child.result(), await asyncio.to_thread(lambda: "thread")]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(FOREVER_S))
                group.create_task(asyncio.to_thread(int, "x"))
        except* ValueError:
            found.append("group")
        return found

    wanted = [0, 1, 2, "a", "b", "timeout", "wait_for", "child", "thread", "group"]
    assert asyncio.run(Interruptible(code()).run()) == wanted


def test_an_interrupted_gather_takes_its_members_along() -> None:
    ended: list[str] = []

    async def member() -> None:
        try:
            await asyncio.sleep(FOREVER_S)
        finally:
            ended.append("member")

    async def code(ready: asyncio.Event) -> list[str]:
        ready.set()
        try:
            await asyncio.gather(member(), member())
        except SoftTimeLimitExceeded:
            return list(ended)
        return []

    assert asyncio.run(interrupted(code)) == ["member", "member"]


@pytest.mark.parametrize("how", ["task group", "wait_for", "timeout"])
def test_what_an_interrupted_await_had_started_has_ended_when_the_code_learns_of_it(how: str) -> None:
    ended: list[str] = []

    async def member() -> None:
        try:
            await asyncio.sleep(FOREVER_S)
        finally:
            ended.append("member")

    async def code(ready: asyncio.Event) -> list[str]:
        ready.set()
        try:
            if how == "task group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(member())
            elif how == "wait_for":
                await asyncio.wait_for(member(), FOREVER_S)
            else:
                async with asyncio.timeout(FOREVER_S):
                    await member()
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0)
            return list(ended)
        return []

    assert asyncio.run(interrupted(code)) == ["member"]


@pytest.mark.parametrize("reason", [SOFT, DrainTimeout()], ids=["soft", "drain"])
def test_an_interruption_in_the_body_of_a_task_group_ends_the_job_as_itself(reason: JobInterrupted) -> None:
    async def code(ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(FOREVER_S))
            ready.set()
            await asyncio.sleep(FOREVER_S)

    with pytest.raises(type(reason)):
        asyncio.run(interrupted(code, reason))


def test_other_groups_of_exceptions_pass_through() -> None:
    async def code() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(int, "x"))

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(Interruptible(code()).run())
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
