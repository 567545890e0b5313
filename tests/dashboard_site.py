"""For the tests of rq-dashboard: a real web process's loop with it, and a Redis full of planted and broken values."""

import base64
import contextlib
import pickle
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import redis
import uvicorn
from rq import Queue, SimpleWorker, Worker
from rq.serializers import JSONSerializer
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from jobs.errors import NotFound
from web.dashboard import dashboard_app
from web.security import Security

SECRET = "s3cret-of-redis"
SHOWN_URL = f"rediss://user:{SECRET}@redis.example:6380/0?ssl_cert_reqs=none&password={SECRET}"
REGISTRIES = ("queued", "scheduled", "deferred", "started", "finished", "failed", "canceled")
IMG = "<img src=x onerror=\"window.ran='{0}'\"><script>window.ran='{0}'</script>"
JS_BREAK = "'); } }); window.ran='queue'; $('#x').on('y', function() { if (1) { ('"
ODD_QUEUES = ("odd", IMG.format("queue").replace("/", "\u2215"), JS_BREAK, "back\\slash")
JSON_DATA = b'["math.sqrt", null, [16], {}]'


def nothing_to_redrive(job_id: str, who: str) -> None:
    raise NotFound("dead letter", job_id)


@contextlib.contextmanager
def serving(
    client: redis.Redis, url: str = SHOWN_URL, redrive: Callable[[str, str], None] = nothing_to_redrive
) -> Iterator[httpx.Client]:
    """A real web process's loop with the dashboard at /rq; the client's base URL ends there."""

    async def ping(request: Request) -> PlainTextResponse:
        return PlainTextResponse("pong")

    routes = [Mount("/rq", dashboard_app(url, client, redrive)), Route("/ping", ping)]
    app = Starlette(routes=routes, middleware=[Middleware(Security)])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/rq", trust_env=False, timeout=60, follow_redirects=True
        ) as http:
            yield http
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def queue(client: redis.Redis, name: str = "delivery") -> Queue:
    return Queue(name, connection=client, serializer=JSONSerializer)


def run_jobs(client: redis.Redis) -> None:
    SimpleWorker([queue(client)], connection=client, serializer=JSONSerializer).work(burst=True, logging_level="ERROR")


def register_worker(client: redis.Redis, name: str, job_id: str) -> None:
    worker = Worker([queue(client)], name=name, connection=client, serializer=JSONSerializer)
    worker.register_birth()
    worker.set_state("busy")
    worker.set_current_job_id(job_id)


def plant(client: redis.Redis, trap: Path) -> list[str]:
    """Puts everything hostile or broken that we can think of where the dashboard looks; the ids of the planted jobs."""

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (trap,))

    evil = pickle.dumps(Payload())
    good = {"data": JSON_DATA, "status": "failed", "origin": "delivery", "created_at": "2026-11-21T03:04:05.000000Z"}
    hashes: dict[str, dict[str, Any]] = {
        "pickled-data": {**good, "data": zlib.compress(evil)},
        "pickled-bare": {**good, "data": evil},
        "pickled-meta": {**good, "meta": evil},
        "pickled-result": {**good, "result": evil},
        "broken-status": {**good, "status": "nonsense"},
        "broken-date": {**good, "created_at": "yesterday"},
        "broken-text": {**good, "description": b"\xff\xfe"},
        "broken-number": {**good, "timeout": "abc", "ttl": "x"},
        "broken-result": good,
        "broken-call": {**good, "data": b'["math.sqrt", null, 5, 7]'},
        "deep": {**good, "data": b"[" * 100_000},
        "no-data": {"status": "queued"},
        IMG.format("id"): {**good, "description": IMG.format("description")},
    }
    for job_id, fields in hashes.items():
        client.hset(f"rq:job:{job_id}", mapping=fields)
    result = {"type": "1", "return_value": base64.b64encode(evil)}
    client.xadd("rq:results:pickled-result", result)
    client.xadd("rq:results:broken-result", {"type": "nonsense"})
    ids = [*hashes, "gone"]
    client.rpush("rq:queue:delivery", *ids, b"\xff\xfe")
    for name in ("scheduled", "deferred", "finished", "failed", "canceled"):
        client.zadd(f"rq:{name}:delivery", dict.fromkeys(ids, 1.0))
    client.zadd("rq:wip:delivery", {f"{job_id}:execution": 1.0 for job_id in ids} | {"no-colon": 1.0})
    client.sadd("rq:queues", "rq:queue:delivery", *(f"rq:queue:{name}" for name in ODD_QUEUES))
    for worker, job_id in (("pickled", "pickled-data"), ("idle", "gone"), (IMG.format("worker"), IMG.format("id"))):
        register_worker(client, worker, job_id)
    client.hset("rq:worker:odd", mapping={"pid": "abc", "queues": "delivery", "total_working_time": "nan", "birth": "x"})
    client.hset("rq:worker:binary", mapping={"hostname": b"\xff"})
    client.sadd("rq:workers", "rq:worker:odd", "rq:worker:binary", "rq:worker:dead")
    return ids


def packed(text: str) -> bytes:
    """Text as RQ keeps `exc_string` in a result (rq 2.12.0 results.py)."""
    return base64.b64encode(zlib.compress(text.encode()))
