"""Limits per client, over all web processes: 429 with Retry-After above them, and where the client stands in every answer.

Redis lends a process a tenth of a second's worth of a client's tokens at a time, so that hardly any request needs a
round trip of its own. No token is lent twice: the processes together never admit more than the limit. What one of
them was lent and did not use within LEASE_S is lost to the client.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import redis.asyncio
import redis.exceptions
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs import keys
from jobs.errors import TooMany
from jobs.queue.script import beside
from jobs.setting_values import RateLimit
from web.patience import patience
from web.problems import on_known, on_redis

RATE_LIMIT = beside(__file__, "rate_limit")
LEASE_S = 0.1
MAX_CLIENTS = 10_000
"""Clients that a process remembers; one that is forgotten is asked about again."""
NAMED = {("POST", "/v1/entries"): "entries", ("POST", "/v1/orders"): "orders"}
REST = "*"


@dataclass(slots=True)
class Lease:
    """What a process was lent of a client's tokens. Instants are monotonic seconds."""

    limit: RateLimit
    key: str
    tokens: int = 0
    left: int = 0
    until: float = 0.0
    open_at: float = 0.0
    full_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def headers(self, now: float) -> dict[str, str]:
        """Where the client stands (draft-ietf-httpapi-ratelimit-headers-11): `r` tokens left, all back in `t` seconds."""
        limit, left = self.limit, max(0, self.left + self.tokens)
        return {
            "RateLimit-Policy": f'"{limit.name}";q={limit.burst};w={limit.window_s}',
            "RateLimit": f'"{limit.name}";r={left};t={max(0, math.ceil(self.full_at - now))}',
        }


class RateLimits:
    """The clients' tokens in this process."""

    def __init__(self, client: redis.asyncio.Redis, limits: Sequence[RateLimit]) -> None:
        self._client = client
        self._limits = {limit.name: limit for limit in limits}
        self._leases: OrderedDict[tuple[str, str], Lease] = OrderedDict()

    def lease(self, name: str, client: str) -> Lease | None:
        """The client's lease of the limit with this name, or of the one for all the rest; None where no limit is set."""
        limit = self._limits.get(name) or self._limits.get(REST)
        if limit is None:
            return None
        found = self._leases.get((limit.name, client))
        if found is None:
            found = self._leases[limit.name, client] = Lease(limit, keys.rate_limit(f"{limit.name}:{client}"))
            if len(self._leases) > MAX_CLIENTS:
                self._leases.popitem(last=False)
        return found

    async def take(self, lease: Lease) -> None:
        """Takes one token. Raises TooMany."""
        if self.take_lent(lease):
            return
        async with patience(), lease.lock:
            if lease.tokens < 1 and time.monotonic() >= lease.open_at:
                await self._borrow(lease, math.ceil(lease.limit.per_s * LEASE_S), 0)
        if lease.tokens < 1:
            now = time.monotonic()
            wait_s = max(1, math.ceil(lease.open_at - now))
            reason = f"{lease.limit} is the limit; nothing of this request was accepted"
            raise TooMany(reason, wait_s, {**lease.headers(now), "Retry-After": str(wait_s)})
        lease.tokens -= 1

    def take_lent(self, lease: Lease) -> bool:
        """Takes a token that this process was lent, if one is left."""
        if time.monotonic() > lease.until:
            lease.tokens = 0
        if lease.tokens < 1:
            return False
        lease.tokens -= 1
        return True

    async def charge(self, lease: Lease, n: int) -> None:
        """Takes tokens for work whose size is known only now; what is not there the client has to earn first."""
        spent = min(n, lease.tokens)
        lease.tokens -= spent
        if n > spent:
            async with patience(), lease.lock:
                await self._borrow(lease, 0, n - spent)

    async def _borrow(self, lease: Lease, wanted: int, owed: int) -> None:
        limit = lease.limit
        args: list[str | int] = [repr(1 / limit.per_s), limit.burst, wanted, owed]
        lent, lease.left, next_in, full_in = await RATE_LIMIT.run(self._client, [lease.key], args)
        now = time.monotonic()
        lease.tokens += lent
        lease.open_at = now + float(next_in) if not lent else 0.0
        lease.full_at, lease.until = now + float(full_in), now + LEASE_S


class Limited:
    """Takes a token for each call of the API, or answers 429. For work that comes in numbers see `charge`."""

    def __init__(self, app: ASGIApp, limits: RateLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        client = scope.get("client_name") or (scope.get("client") or ("",))[0]
        lease = self._limits.lease(name_of(scope["method"], path), client)
        if lease is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._limits.take(lease)
        except TooMany as error:
            await (await on_known(Request(scope), error))(scope, receive, send)
            return
        except redis.exceptions.RedisError as error:
            await (await on_redis(Request(scope), error))(scope, receive, send)
            return
        scope["rate_limit"] = lease

        async def send_limited(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(lease.headers(time.monotonic()))
            await send(message)

        await self._app(scope, receive, send_limited)


def name_of(method: str, path: str) -> str:
    """The name of the limit for these calls."""
    return NAMED.get((method, path), REST)


async def charge(request: Request, n: int) -> None:
    """Charges the request's client for `n` more than the one token that the request has cost."""
    lease = request.scope.get("rate_limit")
    if lease is not None and n > 0:
        limits: RateLimits = request.app.state.turnstile.rate_limits
        await limits.charge(lease, n)
