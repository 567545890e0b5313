"""Taskiq, without a result backend; the bulk way is many calls at once. In the bulk and single calls of enqueue.py: a list.

Workers: `--workers` is its own way to several processes; functions are `async def`, which spares it its thread pool; uvloop is
installed, which it then uses. A hundred tasks at once is its default. The stream broker acknowledges when the task has ended (its
default) and reads a hundred messages at once (its default), those too that were sent before it started; the list broker pops and
cannot acknowledge. No timeout on its sockets: a pop that had waited for more than redis-py's five seconds would lose its message.
"""

import asyncio
import os
from typing import Any

from contenders import work
from contenders.plain import add as plain_add
from taskiq_redis import ListQueueBroker, RedisStreamBroker

AT_ONCE = 50
KIND = RedisStreamBroker if work.VARIANT == "streams" else ListQueueBroker
OPTIONS: Any = {"socket_timeout": None, **({"consumer_id": "0"} if KIND is RedisStreamBroker else {})}
broker = KIND(os.environ["REDIS_URL"], max_connection_pool_size=AT_ONCE, **OPTIONS)
add = broker.task(plain_add)
TASKS = {
    function.__name__.removeprefix("async_"): broker.task(task_name=function.__name__)(function)
    for function in (work.async_noop, work.async_nap, work.async_stamp)
}
COMMAND = ("{bin}/taskiq", "worker", "contenders.with_taskiq:broker", "--workers", "{processes}", "--log-level", "ERROR")
COMMAND += ("--max-async-tasks", "{slots}")
UNREAD = """local group = redis.call('XINFO', 'GROUPS', 'taskiq')[1]
local found = {}
for i = 1, #group, 2 do found[group[i]] = group[i + 1] end
return found['pending'] + (found['lag'] or 1)"""
WORKERS = {
    "streams": work.Workers(COMMAND, UNREAD, late=True, slots=100),
    "lists": work.Workers(COMMAND, "return redis.call('LLEN', 'taskiq')", late=False, slots=100),
}


async def send(job: str, *args: float) -> None:
    """One job for the workers."""
    await TASKS[job].kiq(*args)


async def enqueue() -> None:
    """One job."""
    await add.kiq(3, 4)


async def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    await asyncio.gather(*(_share(jobs // AT_ONCE) for _ in range(AT_ONCE)))


async def _share(jobs: int) -> None:
    for _ in range(jobs):
        await enqueue()
