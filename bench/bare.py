"""What the front door is compared with, on the same server: routes that validate the same JSON.

`/bare` answers without Redis; `/enqueue` has RQ enqueue a job for each entry, in a thread. Run by ingest.py.
"""

import os
from functools import partial

import msgspec
import redis
import rq
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobs.mall import entries
from jobs.settings import current
from web.ndjson import EntriesAnswer

_decoder = msgspec.json.Decoder(entries.EntryRequest)
_queue = rq.Queue("bench", connection=redis.Redis.from_url(os.environ["REDIS_URL"]), serializer=rq.serializers.JSONSerializer)


async def bare(request: Request) -> Response:
    """Validates and answers."""
    _decoder.decode(await request.body())
    return _taken()


async def enqueue(request: Request) -> Response:
    """Validates and enqueues."""
    body = await request.body()
    _decoder.decode(body)
    await run_in_threadpool(partial(_queue.enqueue, "operator.abs", body.decode()))
    return _taken()


def _taken() -> Response:
    return Response(msgspec.json.encode(EntriesAnswer(1, 0, [])), 202, media_type="application/json")


def make_app() -> Starlette:
    """The two routes."""
    current()
    return Starlette(routes=[Route("/bare", bare, methods=["POST"]), Route("/enqueue", enqueue, methods=["POST"])])
