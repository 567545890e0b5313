"""Calls the product's async functions from a test that is not: each call has a loop and a client of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis.asyncio

from jobs import connections

T = TypeVar("T")


class Ask:
    """Runs one coroutine with an async client of the test's Redis and returns its answer."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, call: Callable[[redis.asyncio.Redis], Awaitable[T]]) -> T:
        async def with_client() -> T:
            client = connections.connect_async(self._url)
            try:
                return await call(client)
            finally:
                await client.aclose()

        return asyncio.run(with_client())
