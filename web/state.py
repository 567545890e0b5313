"""What every request handler needs, made once at start."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

import redis
import redis.asyncio
from starlette.requests import Request

from jobs.mall.accepting import Outcome, Sent
from jobs.mall.entries import Entry
from jobs.settings import Settings
from web.admission import Admission
from web.coalescer import Coalescer
from web.live import Live
from web.rate_limits import RateLimits


@dataclass(frozen=True)
class State:
    """`sync_redis` is for operators' calls, in a thread: `starlette.concurrency.run_in_threadpool`."""

    settings: Settings
    redis: redis.asyncio.Redis
    sync_redis: redis.Redis
    coalescer: Coalescer[Entry, bool]
    orders: Coalescer[Sent, Outcome]
    admission: Admission
    rate_limits: RateLimits
    live: Live
    zone: ZoneInfo


def state(request: Request) -> State:
    """The state of the application that serves the request."""
    found: State = request.app.state.turnstile
    return found
