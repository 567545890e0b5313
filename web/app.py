"""The web application: routes, middleware, errors and life span, all in one list each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from jobs import connections
from jobs.mall import entries, tasks
from jobs.queue import dead_letters
from jobs.settings import Settings, current
from web import (
    api_audit,
    api_breakers,
    api_canvas,
    api_dead_letters,
    api_entries,
    api_jobs,
    api_orders,
    api_tasks,
    api_workers,
    docs,
    metrics,
    openapi,
    page,
    probes,
)
from web.admission import Admission
from web.coalescer import Coalescer
from web.dashboard import dashboard_app
from web.live import Live
from web.operation import Operation
from web.problems import HANDLERS
from web.security import Security
from web.state import State
from web.trace import Trace

OPERATIONS: tuple[Operation, ...] = (
    *api_entries.OPERATIONS,
    *api_orders.OPERATIONS,
    *api_dead_letters.OPERATIONS,
    *api_audit.OPERATIONS,
    *api_jobs.OPERATIONS,
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

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        background = [asyncio.create_task(here.admission.run()), asyncio.create_task(here.live.run())]
        try:
            yield
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
            *(operation.route() for operation in OPERATIONS),
            Route("/openapi.json", openapi.endpoint(OPERATIONS)),
            *docs.docs_routes(),
            Mount("/rq", app=dashboard),
            *page.routes(),
        ],
        middleware=[Middleware(Trace), Middleware(Security, keys=settings.api_keys)],
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
        coalescer=Coalescer(lambda batch, now: entries.ingest(client, batch, settings=settings, now=now)),
        admission=Admission(sync_client, settings),
        live=Live(client),
        zone=settings.zone,
    )
