"""What a request asks Redis before it is admitted: nobody waits longer for that than for the work itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.exceptions

from web.pulse import PATIENCE_S


@asynccontextmanager
async def patience() -> AsyncIterator[None]:
    """Bounds what is awaited in it, queueing for a lock or a connection included. Raises redis' TimeoutError, which is a 503."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except TimeoutError:
        raise redis.exceptions.TimeoutError(f"no answer within {PATIENCE_S:g} s") from None
