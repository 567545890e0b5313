"""The steps of an order as tasks: pick, pack, deliver, one queue each.

Every step has the same shape: begin (an attempt opens, the version is told), the work, end (new state and next job in
one script that compares the version). A crash between two of these lines makes the job run again and do no harm: what has
been written is not written twice, since the order has moved on.
"""

import json
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from jobs import connections, crash_points, keys, trace
from jobs.errors import Permanent
from jobs.mall import carrier, orders, packing
from jobs.mall.order_hooks import OrderHooks
from jobs.mall.orders import Line, Status, Step
from jobs.queue.backoff import Backoff
from jobs.queue.batches import BUFFERS, NEXT, UNTIL_IT_WORKS, Buffer
from jobs.queue.job import JobSpec
from jobs.queue.running import running_job
from jobs.queue.script import beside, load
from jobs.queue.task import task
from jobs.settings import current

START = beside(__file__, "start")
PICK_BEGIN = beside(__file__, "pick_begin")
PICK_END = beside(__file__, "pick_end")
PICK_ALONE = beside(__file__, "pick_alone")
STEP_BEGIN = beside(__file__, "step_begin")
STEP_END = beside(__file__, "step_end")

STEP_LIMIT_S = 60.0


def step_retry() -> Backoff:
    """The retry policy of an order's steps, from the settings."""
    settings = current()
    return Backoff(settings.step_max_attempts, settings.backoff_base_s, settings.backoff_cap_s)


@dataclass(frozen=True, slots=True)
class Begun:
    """An order at the start of an attempt. `fields` is its hash."""

    id: str
    version: int
    fields: dict[str, str]

    def lines(self) -> list[Line]:
        """The order's lines. Raises Permanent when they are damaged."""
        return _lines(self.fields["lines"])


@task(name="orders.start", queue="picking", retry=UNTIL_IT_WORKS, time_limit_s=STEP_LIMIT_S, owned=True)
def start(order_id: str) -> str:
    """A delayed order's time has come: it joins the pick buffer."""
    now = time.time()
    job = pick_batch_spec(now)
    crash_points.reach("start.asked")
    done = START(connections.process_client(), [keys.order(order_id)], [order_id, repr(now), job.id, job.queue, job.fields])
    crash_points.reach("start.written")
    return "started" if done else "not waiting any more"


@task(name="orders.pick_batch", queue="picking", retry=UNTIL_IT_WORKS, time_limit_s=STEP_LIMIT_S, result_ttl_s=60, owned=True)
def pick_batch() -> dict[str, int]:
    """Picks the orders that wait in the buffer, each with a result of its own; one that fails is retried alone."""
    client, job, now = connections.process_client(), running_job(), time.time()
    batch = PICK_BEGIN(
        client, [keys.PICK_JOB, keys.PICK_BUFFER], [job.id, current().pick_batch, repr(now), job.worker, job.attempt]
    )
    crash_points.reach("pick.begun")
    if batch is None:
        return {}
    load(client, PICK_END, PICK_ALONE, NEXT)
    with client.pipeline(transaction=False) as pipeline:
        for order_id, version, lines, of_order in batch:
            with trace.within(of_order.decode()):
                script, args = _picked(order_id.decode(), version, lines, time.time())
            script.in_pipeline(pipeline, [keys.order(order_id.decode()), keys.PICK_BUFFER], args)
        following = pick_batch_spec(now)
        args = [job.id, following.id, following.queue, following.fields, repr(time.time())]
        NEXT.in_pipeline(pipeline, [keys.PICK_BUFFER, keys.PICK_JOB], args)
        *answers, _next = pipeline.execute()
    crash_points.reach("pick.ended")
    return Counter(answer.decode() if isinstance(answer, bytes) else "alone" for answer in answers)


@task(name="orders.pick", queue="picking", retry=step_retry, time_limit_s=STEP_LIMIT_S, hooks=OrderHooks())
def pick(order_id: str) -> str:
    """Picks one order that failed in its batch."""
    begun = _begin(order_id, Step.PICK)
    if begun is None:
        return "moved on"
    args = _pick_end_args(order_id, begun.version, begun.lines(), time.time())
    answer = PICK_END(connections.process_client(), [keys.order(order_id), keys.PICK_BUFFER], args)
    crash_points.reach("alone.ended")
    return str(answer.decode())


@task(name="orders.pack", queue="packing", retry=step_retry, time_limit_s=STEP_LIMIT_S, hooks=OrderHooks())
def pack(order_id: str) -> str:
    """Computes items and weight and writes the packing slip."""
    begun = _begin(order_id, Step.PACK)
    if begun is None:
        return "moved on"
    now = time.time()
    slip = packing.slip(order_id, begun.fields, begun.lines(), now)
    following = deliver.spec(order_id, job_id=f"{order_id}-deliver", now=now)
    fields = {"slip": msgspec.json.encode(slip).decode()}
    return _end(begun, now, Status.DELIVERING, step=Step.DELIVER, fields=fields, following=following)


@task(name="orders.deliver", queue="delivery", retry=step_retry, time_limit_s=STEP_LIMIT_S, hooks=OrderHooks())
def deliver(order_id: str) -> str:
    """Books the parcel with the carrier; the same idempotency key at every attempt."""
    with carrier.BREAKER.guard(connections.process_client()) as call:  # first: a job that is deferred opens no attempt
        begun = _begin(order_id, Step.DELIVER)
        if begun is None:
            call.not_made()
            return "moved on"
        tracking_number = carrier.book(packing.shipment(order_id, begun.fields))
    fields = {"tracking_number": tracking_number}
    return _end(begun, time.time(), Status.DELIVERED, fields=fields, stock="consume")


def pick_batch_spec(now: float) -> JobSpec:
    """A new batch pick job."""
    with trace.within(""):  # it belongs to the orders of many requests
        return pick_batch.spec(job_id=f"pick-{uuid.uuid4().hex}", now=now)


BUFFERS[pick_batch.name] = Buffer(keys.PICK_BUFFER, keys.PICK_JOB, pick_batch_spec)


def start_spec(order_id: str, now: float) -> JobSpec:
    """The job that starts a delayed order."""
    return start.spec(order_id, job_id=f"{order_id}-start", now=now)


def step_spec(order_id: str, step: Step, now: float) -> JobSpec:
    """The job of one order at one step; its id is the order's and the step's, whoever creates it."""
    tasks = {Step.PICK: pick, Step.PACK: pack, Step.DELIVER: deliver}
    return tasks[step].spec(order_id, job_id=f"{order_id}-{step}", now=now)


def _begin(order_id: str, step: Step) -> Begun | None:
    job = running_job()
    version, found = STEP_BEGIN(
        connections.process_client(),
        [keys.order(order_id)],
        [order_id, step.value, job.id, job.attempt, repr(time.time()), job.worker],
    )
    crash_points.reach("step.begun")
    if version == 0:
        return None  # done before, cancelled or ended: this job has nothing left to do
    texts = [part.decode() for part in found]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    structlog.contextvars.bind_contextvars(order_id=order_id)
    trace.enter(fields.get("trace", ""))  # a stock worker knows nothing of traces
    return Begun(order_id, version, fields)


def _end(
    begun: Begun,
    now: float,
    status: Status,
    *,
    step: Step | None = None,
    fields: dict[str, str],
    stock: str = "",
    following: JobSpec | None = None,
) -> str:
    flat = json.dumps([part for pair in fields.items() for part in pair])
    job = [following.id, following.queue, following.fields] if following else ["", "", ""]
    args = [begun.id, begun.version, repr(now), status.value, step.value if step else "", flat, stock, *job]
    crash_points.reach("step.ending")
    ended = STEP_END(connections.process_client(), [keys.order(begun.id)], args)
    crash_points.reach("step.ended")
    return status.value if ended else "moved on"


def _picked(order_id: str, version: int, lines: bytes, now: float) -> tuple[Any, list[Any]]:
    try:
        return PICK_END, _pick_end_args(order_id, version, _lines(lines), now)
    except Permanent as error:
        alone = step_spec(order_id, Step.PICK, now)
        return PICK_ALONE, [order_id, version, repr(now), str(error), alone.id, alone.queue, alone.fields]


def _pick_end_args(order_id: str, version: int, lines: list[Line], now: float) -> list[Any]:
    following = step_spec(order_id, Step.PACK, now)
    needed = json.dumps(orders.quantities(lines))
    return [order_id, version, repr(now), needed, following.id, following.queue, following.fields]


def _lines(text: str | bytes) -> list[Line]:
    try:
        return orders.decode_lines(text)
    except msgspec.MsgspecError as error:
        raise Permanent(f"the order's lines cannot be read: {error}") from error
