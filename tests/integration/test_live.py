"""The reader of the event stream, when Redis comes back with less of it."""

import asyncio

import redis
from servers import Server

from jobs import connections, keys
from web.live import Live

LIMIT_S = 30.0


async def woken(changed: asyncio.Event) -> None:
    """Waits until the watcher is woken, and makes it ready for the next time."""
    await asyncio.wait_for(changed.wait(), LIMIT_S)
    changed.clear()


def test_events_are_followed_also_after_redis_came_back_with_an_older_stream(own_server: Server) -> None:
    client = redis.Redis.from_url(own_server.url)

    def add(entry_id: str) -> None:
        client.xadd(keys.EVENTS, {"order": "o1", "status": "packing"}, id=entry_id)

    async def follow() -> None:
        reader = connections.connect_async(own_server.url)
        live = Live(reader)
        with live.watch("o1") as changed:
            running = asyncio.create_task(live.run())
            await woken(changed)  # it has begun
            add("2000-0")
            await woken(changed)
            client.delete(keys.EVENTS)
            own_server.kill()
            own_server.start()
            await woken(changed)  # it is back: who watches looks for himself
            add("1000-0")
            await woken(changed)
            live.close()
            await running
        await reader.aclose()

    asyncio.run(follow())
    client.close()
