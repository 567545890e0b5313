"""/metrics for Prometheus and /hirefire for autoscaling: read from Redis at each call, so that all web processes answer alike."""

from __future__ import annotations

import hmac
import time
from collections import Counter
from collections.abc import Iterator

import msgspec
import redis
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from jobs import keys
from jobs.mall import footfall, order_store
from jobs.mall.footfall import Summary
from jobs.queue import overview
from jobs.queue.overview import QueueInfo, WorkerInfo
from web.http import answer
from web.operation import Operation
from web.state import state
from web.vitals import Vitals, vitals

PROCESSES = {"counter": "entries", "picker": "picking", "packer": "packing", "courier": "delivery", "worker": "default"}
"""The Procfile's worker processes and the queue of each."""
STATES = ("idle", "busy")
DUE_LOOKED_AT = 1_000


class Demand(msgspec.Struct, frozen=True):
    """One process and how many jobs wait for it or are being done."""

    name: str
    value: int


class Scrape(Collector):
    """All families, from values that were read before."""

    def __init__(
        self, people: Summary, orders: dict[str, int], queues: list[QueueInfo], workers: list[WorkerInfo], signs: Vitals
    ) -> None:
        self._people = people
        self._orders = orders
        self._queues = queues
        self._workers = workers
        self._signs = signs

    def collect(self) -> Iterator[Metric]:
        """Entries, orders, queues, workers, scheduler, Redis."""
        people, signs = self._people, self._signs
        yield CounterMetricFamily("turnstile_entries_accepted", "Events answered 202.", people.accepted)
        yield CounterMetricFamily("turnstile_entries_counted", "Events counted; accepted = counted + pending.", people.counted)
        yield GaugeMetricFamily("turnstile_entries_pending", "Events accepted and not yet counted.", people.pending)
        yield GaugeMetricFamily("turnstile_entries_lag_seconds", "Age of the oldest pending event.", people.lag_s)
        yield _labelled("turnstile_orders", "Orders by status, those deleted by cleanup included.", "status", self._orders)
        yield from self._of_queues()
        yield self._of_workers()
        yield GaugeMetricFamily("turnstile_dead_letters", "Dead letters that wait for an operator.", signs.dead_letters)
        yield GaugeMetricFamily("turnstile_scheduler_up", "1 while a scheduler leads.", float(signs.scheduler_up))
        if signs.heartbeat_age_s is not None:
            help_text = "Time since the leading scheduler's last heartbeat."
            yield GaugeMetricFamily("turnstile_scheduler_heartbeat_age_seconds", help_text, signs.heartbeat_age_s)
        done = CounterMetricFamily("turnstile_scheduler_done", "What schedulers have done, by kind.", labels=["what"])
        for what, number in ({"promoted": 0, "reclaimed": 0} | signs.done).items():
            done.add_metric([what], number)
        yield done
        yield GaugeMetricFamily("turnstile_redis_memory_bytes", "Memory that Redis has in use.", signs.memory_bytes)
        yield GaugeMetricFamily("turnstile_redis_memory_max_bytes", "Redis' maxmemory; 0 without.", signs.max_memory_bytes)

    def _of_queues(self) -> Iterator[Metric]:
        queues = self._queues
        depths = {queue.name: queue.depth for queue in queues}
        yield _labelled("turnstile_queue_depth", "Jobs ready to be claimed.", "queue", depths)
        ages = {queue.name: queue.oldest_age_s for queue in queues}
        yield _labelled("turnstile_queue_oldest_age_seconds", "Age of the oldest ready job.", "queue", ages)
        paused = {queue.name: float(queue.paused) for queue in queues}
        yield _labelled("turnstile_queue_paused", "1 while the queue is paused.", "queue", paused)
        for field, help_text in (
            ("enqueued", "Jobs put on the queue; a retry, a redrive and a reclaim count again."),
            ("finished", "Jobs that succeeded."),
            ("retried", "Failed attempts that were followed by another one."),
            ("dead", "Jobs that became dead letters."),
            ("reclaimed", "Jobs taken back from workers whose lease had run out."),
        ):
            family = CounterMetricFamily(f"turnstile_jobs_{field}", help_text, labels=["queue"])
            for queue in queues:
                family.add_metric([queue.name], getattr(queue, field))
            yield family

    def _of_workers(self) -> Metric:
        found = Counter((name, worker.state) for worker in self._workers for name in worker.queues)
        family = GaugeMetricFamily("turnstile_workers", "Live workers, at each queue that they serve.", labels=["queue", "state"])
        # Zeros as well: an alert on `== 0` needs a sample when the last worker is gone.
        for name, kind in sorted({(queue.name, kind) for queue in self._queues for kind in STATES} | found.keys()):
            family.add_metric([name, kind], found[name, kind])
        return family


async def metrics(request: Request) -> Response:
    """Prometheus' text format, or OpenMetrics where the scraper asks for it."""
    here, now = state(request), time.time()
    people = await footfall.summary(here.redis, zone=here.zone, now=now)
    orders = await order_store.counts(here.redis)

    def read() -> Scrape:
        client = here.sync_redis
        return Scrape(people, orders, overview.queues(client, now), overview.workers(client), vitals(client, now))

    registry = CollectorRegistry(auto_describe=False)
    registry.register(await run_in_threadpool(read))
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    # Not media_type: Starlette would append a second charset.
    return Response(encode(registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"})


async def hirefire(request: Request) -> Response:
    """The demand of each process of the Procfile that runs jobs; 404 unless the token in the path is ours."""
    settings = state(request).settings
    given = request.path_params["token"]
    if not settings.hirefire_token or not hmac.compare_digest(given.encode(), settings.hirefire_token.encode()):
        raise HTTPException(404)
    return answer(await run_in_threadpool(demand, state(request).sync_redis, time.time()))


def demand(client: redis.Redis, now: float) -> list[Demand]:
    """Ready, started and due jobs of each process, in two round trips."""
    with client.pipeline(transaction=False) as pipeline:
        for queue in PROCESSES.values():
            pipeline.llen(keys.queue(queue))
            pipeline.zcard(keys.wip(queue))
            pipeline.zcount(keys.scheduled(queue), "-inf", now)
        pipeline.zrange(keys.SCHEDULED_JOBS, "-inf", now, byscore=True, offset=0, num=DUE_LOOKED_AT)
        *counts, due = pipeline.execute()
        for job_id in due:
            pipeline.hget(keys.job(job_id.decode()), "origin")
        origins = Counter((origin or b"").decode() for origin in pipeline.execute())
    sums = [sum(counts[start : start + 3]) for start in range(0, len(counts), 3)]
    return [Demand(name, known + origins[queue]) for (name, queue), known in zip(PROCESSES.items(), sums, strict=True)]


def _labelled(name: str, help_text: str, label: str, values: dict[str, int] | dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


OPERATIONS = (
    Operation("GET", "/metrics", metrics, "Prometheus metrics.", errors=(503,), response_media_type="text/plain"),
    Operation(
        "GET",
        "/hirefire/{token}/info",
        hirefire,
        "Jobs ready, started and due, for each process of the Procfile that runs them.",
        response=list[Demand],
        errors=(404, 503),
    ),
)
