"""The demo's client of the HTTP API: repeats a request until it is answered, as a good device or shop does."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from jobs.errors import TurnstileError
from jobs.settings import LOOPBACK

BASE_S = 0.2
CAP_S = 5.0
REQUEST_TIMEOUT_S = 15.0
MAX_CONNECTIONS = 16

T = TypeVar("T")


@dataclass
class NoAnswer(TurnstileError):
    """Raised when a request was repeated until the time was up and never answered; the reason is the last try's."""

    request: str
    reason: str

    def __str__(self) -> str:
        return f"{self.request} got no answer: {self.reason}"


@dataclass
class Unexpected(TurnstileError):
    """Raised when an answer is not one that the contract allows here."""

    request: str
    status: int
    reason: str

    def __str__(self) -> str:
        return f"{self.request} answered {self.status}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The final answer to a request. `uncertain`: an earlier try may have been taken although its answer was lost."""

    request: str
    status: int
    body: bytes
    location: str
    uncertain: bool

    def read(self, shape: type[T]) -> T:
        """The body as `shape`. Raises Unexpected when it is something else."""
        try:
            return msgspec.json.decode(self.body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unexpected(self.request, self.status, f"{error}: {self.body[:200]!r}") from error

    def unexpected(self) -> Unexpected:
        """The error to raise for a status that should not be."""
        return Unexpected(self.request, self.status, self.body[:300].decode(errors="replace"))


def backoff_s(tries: int, retry_after_s: float, uniform: float) -> float:
    """Full jitter over an exponential, on top of what the server asks for. `tries` from 1, `uniform` in 0..1."""
    return retry_after_s + uniform * min(CAP_S, BASE_S * 2.0 ** min(tries - 1, 30))


def open_client(url: str, api_key: str | None) -> httpx.AsyncClient:
    """A client with a bounded pool; a request may wait in it as long as it must. Proxies are not asked for this machine."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=httpx.Timeout(REQUEST_TIMEOUT_S, connect=3.0, pool=None),
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
        trust_env=urlsplit(url).hostname not in LOOPBACK,
    )


class Api:
    """Requests that are repeated with full jitter until `give_up_at` (on `clock`)."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        give_up_at: float = math.inf,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform
        self.give_up_at = give_up_at
        self.retries = 0

    async def get(self, path: str, **query: str) -> Answer:
        """GET, the answer being 200. Raises NoAnswer or Unexpected."""
        answer = await self.request("GET", path, query=query)
        if answer.status != 200:
            raise answer.unexpected()
        return answer

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sends the same bytes until an answer comes that is not "later". Raises NoAnswer."""
        name = f"{method} {path}"
        sent_headers = {"Content-Type": "application/json", **(headers or {})}
        tries, uncertain = 0, False
        while True:
            tries += 1
            asked_s = 0.0
            try:
                response = await self._client.request(method, path, content=body, headers=sent_headers, params=query)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__} {error}".strip()
                uncertain = uncertain or not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            else:
                status = response.status_code
                # 409 is this request's own earlier try that is still in flight, so only after an answer was lost.
                if status not in (429, 503) and not (status == 409 and uncertain):
                    return Answer(name, status, response.content, response.headers.get("location", ""), uncertain)
                reason = f"HTTP {status}"
                asked_s = _seconds(response.headers.get("retry-after", ""))
                uncertain = uncertain or status == 503
            wait_s = backoff_s(tries, asked_s, self._uniform())
            if self._clock() + wait_s >= self.give_up_at:
                raise NoAnswer(name, reason)
            self.retries += 1
            await self._sleep(wait_s)


def _seconds(retry_after: str) -> float:
    """Retry-After in seconds; a date, which the API does not send, counts as none."""
    return float(retry_after) if retry_after.isdigit() else 0.0
