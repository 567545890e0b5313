"""The event loop of an IoWorker, on the main thread, with the engine on a thread beside it that no job can block."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jobs import connections, log

try:
    import uvloop
except ImportError:  # it does not exist for every platform
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop

LEAVE_S = 0.5
"""How long what is left on the loop has to end, and again to be closed."""
FORCE_S = 2.0
"""How long after its engine a process whose loop is blocked is ended by force."""
MAX_HELPERS = 100
logger = log.get("worker")


class MainLoop:
    """`helpers` are the threads of `asyncio.to_thread` and its like."""

    def __init__(self) -> None:
        self.loop = new_event_loop()
        self.helpers = ThreadPoolExecutor(MAX_HELPERS, "to_thread")
        self.clean = True
        """Whether every task on the loop has ended with it."""
        self._over = threading.Event()
        self._left = threading.Event()
        self._result: int | BaseException = 0

    def serve(self, engine: Callable[[], int]) -> int:
        """Runs until the engine ends, and returns or raises what it does. Called on the main thread."""
        self.loop.set_default_executor(self.helpers)
        thread = threading.Thread(target=self._run, args=(engine,), name="engine")
        thread.start()
        while not self._over.is_set():
            self._turn(self.loop.run_forever)
        self._turn(lambda: self.loop.run_until_complete(self._leave()))
        self.helpers.shutdown(wait=False, cancel_futures=True)
        self.loop.close()
        self._left.set()
        thread.join()
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Calls it on the loop, from any thread."""
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # it is closed, and this is a thread that was given up
            logger.info("a thread has come back too late")

    def _run(self, engine: Callable[[], int]) -> None:
        try:
            self._result = engine()
        except BaseException as error:  # noqa: BLE001  raised again on the main thread
            self._result = error
        self._over.set()
        self.call(self.loop.stop)
        if not self._left.wait(FORCE_S):
            failed = isinstance(self._result, BaseException)
            logger.error("the loop is blocked: the process ends by force", exc_info=self._result if failed else None)
            os._exit(1 if failed else 0)

    def _turn(self, run: Callable[[], Any]) -> None:
        try:
            run()
        except BaseException:  # SystemExit, say, of a task that a job has started: it must not end the jobs of others
            logger.exception("raised through the loop, which goes on")

    async def _leave(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            _ended, still = await asyncio.wait(left, timeout=LEAVE_S)
            self.clean = not still
        async with asyncio.timeout(LEAVE_S):
            await connections.close_loop_client()
            await self.loop.shutdown_asyncgens()
