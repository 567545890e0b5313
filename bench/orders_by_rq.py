"""What bench/orders.py compares with: the same accept by synchronous RQ calls in a thread pool, as most applications do it.

The same body, the same checks, the same records in one MULTI with the job that RQ enqueues: only the way differs.
"""

import hashlib
import os
import time

import msgspec
import peers  # noqa: F401  finds jobs
import redis
import rq
import uvicorn
from rq.serializers import JSONSerializer
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobs import keys
from jobs.mall import orders
from jobs.mall.accepting import new_order_id
from jobs.mall.orders import OrderRequest
from jobs.settings import current

DAY_S = 86_400
client = redis.Redis.from_url(os.environ["REDIS_URL"])
queue = rq.Queue("picking", connection=client, serializer=JSONSerializer)


def accept(order: OrderRequest, key: str) -> bytes:
    """Idempotency record, order, indexes, event and job, all or nothing."""
    now, record = time.time(), keys.IDEMPOTENCY_PREFIX + hashlib.sha256(key.encode()).hexdigest()
    order_id = new_order_id(now)
    fields = {"reference": order.reference or order_id, "status": "accepted", "step": "pick", "version": "0"}
    fields |= {"created_at": repr(now), "updated_at": repr(now), "lines": orders.encode_lines(order.lines)}
    answer = msgspec.json.encode(orders.view(order_id, fields, []))
    with client.pipeline() as pipeline:
        pipeline.watch(record)
        before: bytes | None = pipeline.hget(record, "answer")
        if before is not None:
            return before
        pipeline.multi()
        pipeline.hset(record, mapping={"answer": answer, "order_id": order_id})
        pipeline.expire(record, 2 * DAY_S)
        pipeline.hset(keys.order(order_id), mapping=fields)
        pipeline.zadd(keys.ORDERS, {order_id: now})
        pipeline.zadd(keys.ORDERS_OPEN, {order_id: now})
        pipeline.zadd(keys.STATUS_PREFIX + "accepted", {order_id: now})
        pipeline.xadd(keys.EVENTS, {"order": order_id, "status": "accepted"}, maxlen=10_000, approximate=True)
        queue.enqueue("jobs.mall.steps.pick", order_id, job_id=order_id, pipeline=pipeline)
        pipeline.execute()
    return answer


async def post_order(request: Request) -> Response:
    """Accepts an order."""
    order = msgspec.json.decode(await request.body(), type=OrderRequest)
    if orders.problems(order, current()):
        return Response(status_code=422)
    answer = await run_in_threadpool(accept, order, request.headers["idempotency-key"])
    return Response(answer, 202, media_type="application/json")


app = Starlette(routes=[Route("/v1/orders", post_order, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_config=None, access_log=False)
