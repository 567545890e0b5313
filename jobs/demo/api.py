"""The demo's client of the HTTP API: repeats a request until it is answered, as a good device or shop does."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import httpx
import msgspec

from jobs.errors import TurnstileError
from jobs.mall.carrier import retry_after_s

LATER = frozenset({409, 429, 503})
"""A 409 is the request's own earlier try, still in flight: nobody else has the run's keys."""

BASE_S = 0.2
MAX_DOUBLINGS = 5
MAX_SHOWN = 300

T = TypeVar("T")


@dataclass
class RequestFailed(TurnstileError):
    """Raised when a request got no answer in time, or not one that the contract allows here."""

    says = "{request}: {reason}"
    request: str
    reason: str


class Api:
    """Requests that are repeated, with full jitter, until they are answered or `give_up_at` (monotonic) has come."""

    def __init__(self, client: httpx.AsyncClient, give_up_at: float) -> None:
        self._client = client
        self.give_up_at = give_up_at
        self.repeated = 0

    async def get(self, path: str, shape: type[T]) -> T:
        """The body of a GET. Raises RequestFailed."""
        return read(await self.request("GET", path), 200, shape)

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Sends the same bytes until an answer comes that is not "later". Raises RequestFailed."""
        for tries in count():
            asked_s = None
            try:
                response = await self._client.request(method, path, content=body, headers=headers)
                if response.status_code not in LATER:
                    return response
                reason = f"no answer: HTTP {response.status_code}"
                asked_s = retry_after_s(response.headers.get("retry-after"), time.time())
            except httpx.RequestError as error:
                reason = f"no answer: {type(error).__name__} {error}"
            wait_s = (asked_s or 0.0) + random.random() * BASE_S * 2 ** min(tries, MAX_DOUBLINGS)
            if time.monotonic() + wait_s >= self.give_up_at:
                break
            self.repeated += 1
            await asyncio.sleep(wait_s)
        raise RequestFailed(f"{method} {path}", reason)


def read(response: httpx.Response, status: int, shape: type[T]) -> T:
    """The body as `shape`. Raises RequestFailed for another status or body."""
    reason = f"answered {response.status_code}"
    if response.status_code == status:
        try:
            return msgspec.json.decode(response.content, type=shape)
        except msgspec.DecodeError as error:
            reason = str(error)
    raise RequestFailed(f"{response.request.method} {response.request.url.path}", f"{reason}: {response.text[:MAX_SHOWN]}")
