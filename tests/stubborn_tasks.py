"""Tasks that no interruption ends."""

import asyncio
import time
from pathlib import Path

from jobs.queue.task import task

POLL_S = 0.02


def _go_on(folder: str) -> None:
    Path(folder, "started-1").touch()
    while not Path(folder, "go").exists():
        try:
            time.sleep(POLL_S)
        except BaseException:  # noqa: BLE001  that is the point
            continue


@task(name="stubborn.block")
def block(folder: str) -> None:
    """Runs until there is a file `go`, whatever is raised inside."""
    _go_on(folder)


@task(name="stubborn.block_loop")
async def block_loop(folder: str) -> None:
    """The same on the event loop, which stands still meanwhile."""
    _go_on(folder)


@task(name="stubborn.await_again")
async def await_again(folder: str) -> None:
    """The same with awaits."""
    Path(folder, "started-1").touch()
    while not Path(folder, "go").exists():
        try:
            await asyncio.sleep(POLL_S)
        except BaseException:  # noqa: BLE001  that is the point
            continue


@task(name="stubborn.block_beside")
async def block_beside(folder: str) -> None:
    """The same on a thread of the loop's own."""
    await asyncio.to_thread(_go_on, folder)
