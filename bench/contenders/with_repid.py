"""repid on Redis streams; its bulk way is many calls at once.

Workers: it has no command, so a process is a script as in its guide, run on uvloop. A hundred messages a read and a hundred
tasks at once do better than its defaults, ten and a thousand. `auto`, its default, acknowledges after the job; `ack_first`
before it.
"""

import asyncio
import os

import uvloop
from contenders import work
from repid import RedisServer, Repid, Router

AT_ONCE = 50
CHANNEL = "bench"
app = Repid()
app.servers.register_server("default", RedisServer(os.environ["REDIS_URL"], batch_size=100), is_default=True)
router = Router()
FUNCTIONS = {"noop": work.async_noop, "nap": work.async_nap, "stamp": work.async_stamp}
NAMES = {"noop": (), "nap": ("seconds",), "stamp": ("number",)}
MODE = work.VARIANT or "auto"
for name, function in FUNCTIONS.items():
    router.actor(name=name, channel=CHANNEL, confirmation_mode=MODE)(function)
app.include_router(router)
COMMAND = ("{python}", "-m", "contenders.with_repid")
PENDING = """local group = redis.call('XINFO', 'GROUPS', 'repid:bench')[1]
local found = {}
for i = 1, #group, 2 do found[group[i]] = group[i + 1] end
return found['pending'] + (found['lag'] or 1)"""
WORKERS = {
    "auto": work.Workers(COMMAND, PENDING, late=True, slots=100),
    "ack_first": work.Workers(COMMAND, PENDING, late=False, slots=100),
}


async def send(job: str, *args: float) -> None:
    """One job for the workers."""
    await _send(job, dict(zip(NAMES[job], args, strict=True)))


async def _send(job: str, payload: dict[str, float]) -> None:
    if not app.servers.default.is_connected:
        await app.servers.default.connect()
    await app.send_message_json(channel=CHANNEL, payload=payload, headers={"topic": job})


async def enqueue() -> None:
    """One job."""
    await _send("add", {"x": 3, "y": 4})


async def enqueue_many(jobs: int) -> None:
    """That many jobs."""
    await asyncio.gather(*(_share(jobs // AT_ONCE) for _ in range(AT_ONCE)))


async def _share(jobs: int) -> None:
    for _ in range(jobs):
        await enqueue()


async def _work() -> None:
    async with app.servers.default.connection():
        await app.run_worker(tasks_limit=work.SLOTS)


if __name__ == "__main__":
    uvloop.run(_work())
