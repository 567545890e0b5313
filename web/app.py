"""The web application: routes, middleware, errors and life span, all in one list each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from jobs import connections
from jobs.mall import accepting, entries, tasks
from jobs.mall.orders import MAX_LINES
from jobs.queue import dead_letters
from jobs.settings import Settings, current
from web import (
    api_alerts,
    api_audit,
    api_breakers,
    api_canvas,
    api_dead_letters,
    api_entries,
    api_jobs,
    api_orders,
    api_schedules,
    api_tasks,
    api_workers,
    docs,
    express,
    gate,
    metrics,
    openapi,
    page,
    probes,
)
from web.admission import Admission
from web.coalescer import Coalescer
from web.dashboard import dashboard_app
from web.express_calls import CALLS
from web.keyring import Keyring
from web.live import Live
from web.operation import Operation
from web.problems import HANDLERS
from web.rate_limits import Limited, RateLimits
from web.routes import routes
from web.security import Security
from web.state import State
from web.trace import Trace

MAX_ENTRIES = 2_000
"""So many share a script at most."""
OPERATIONS: tuple[Operation, ...] = (
    *api_entries.OPERATIONS,
    *api_alerts.OPERATIONS,
    *api_orders.OPERATIONS,
    *api_dead_letters.OPERATIONS,
    *api_audit.OPERATIONS,
    *api_jobs.OPERATIONS,
    *api_schedules.OPERATIONS,
    *api_workers.OPERATIONS,
    *api_canvas.OPERATIONS,
    *api_tasks.OPERATIONS,
    *api_breakers.OPERATIONS,
    *probes.OPERATIONS,
    *metrics.OPERATIONS,
)


def create_app(settings: Settings | None = None) -> Starlette:
    """The ASGI application. Redis may be away when it starts: it then answers 503 until Redis is back."""
    settings = settings or current()
    tasks.register(settings)
    url = connections.redis_url(settings)
    here = _state(settings, url)
    keyring = Keyring(here.redis, settings) if settings.asks_for_keys else None

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        background = [asyncio.create_task(here.admission.run()), asyncio.create_task(here.live.run())]
        background += [asyncio.create_task(keyring.run())] if keyring else []
        try:
            yield {express.STATE: express.Express(here, keyring, CALLS), gate.STATE: gate.Gate(here.admission)}
        finally:
            here.live.close()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await here.redis.aclose()
            here.sync_redis.close()

    dashboard = dashboard_app(url, here.sync_redis, lambda job_id, by: dead_letters.redrive(here.sync_redis, job_id, by=by))
    app = Starlette(
        routes=[
            *routes(OPERATIONS),
            Route("/openapi.json", openapi.endpoint(OPERATIONS, asks_for_keys=settings.asks_for_keys)),
            *docs.docs_routes(),
            Mount("/rq", app=dashboard),
            *page.routes(),
        ],
        middleware=[
            Middleware(Trace),
            Middleware(Security, keyring, OPERATIONS, settings.max_body_bytes),
            *([Middleware(Limited, here.rate_limits)] if settings.rate_limits else []),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.state.turnstile = here
    return app


def _state(settings: Settings, url: str) -> State:
    client, sync_client = connections.connect_async(url), connections.connect(url)
    return State(
        settings=settings,
        redis=client,
        sync_redis=sync_client,
        coalescer=Coalescer(lambda batch, now: entries.ingest(client, batch, settings=settings, now=now), MAX_ENTRIES),
        orders=Coalescer(
            lambda batch, now: accepting.accept(client, batch, settings=settings, now=now), MAX_LINES, accepting.n_lines
        ),
        admission=Admission(client, sync_client, settings),
        rate_limits=RateLimits(client, settings.rate_limits),
        live=Live(client),
        zone=settings.zone,
    )
