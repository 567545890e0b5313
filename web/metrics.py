"""/metrics for Prometheus and /hirefire for autoscaling: read from Redis at each call, so that all web processes answer alike."""

import hmac
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from jobs.mall import alerts
from jobs.queue import overview
from jobs.queue.breaker import Circuit
from jobs.queue.priorities import base, served
from web.http import answer
from web.operation import ANYBODY, Operation
from web.operations import Operations, read
from web.state import state

PROCESSES = {
    "counter": ("entries",),
    "picker": ("picking",),
    "packer": ("packing",),
    "courier": ("delivery", "notify"),
    "worker": ("default",),
}
"""The Procfile's worker processes and the queues of each."""
OF_A_QUEUE = (
    (GaugeMetricFamily, "queue_depth", "depth", "Jobs ready to be claimed."),
    (GaugeMetricFamily, "queue_held", "held", "Jobs among them that wait for the limits of their task."),
    (GaugeMetricFamily, "queue_oldest_age_seconds", "oldest_age_s", "Age of the oldest ready job."),
    (GaugeMetricFamily, "queue_paused", "paused", "1 while the queue is paused."),
    (CounterMetricFamily, "jobs_enqueued", "enqueued", "Jobs put on the queue; a retry, a redrive and a reclaim count again."),
    (CounterMetricFamily, "jobs_finished", "finished", "Jobs that succeeded."),
    (CounterMetricFamily, "jobs_retried", "retried", "Failed attempts that were followed by another one."),
    (CounterMetricFamily, "jobs_dead", "dead", "Jobs that became dead letters."),
    (CounterMetricFamily, "jobs_reclaimed", "reclaimed", "Jobs taken back from workers whose lease had run out."),
)
"""Kind and name of a family, field of QueueInfo, help."""
OF_A_BREAKER = (
    ("openings", "opened", "How often the circuit was opened."),
    ("calls", "calls_total", "Calls to the downstream whose outcome was counted."),
    ("failures", "failures_total", "Those of them that failed."),
    ("refused", "refused_total", "Calls that met the circuit open."),
)
"""Name of a counter, field of BreakerState, help."""
OF_A_SCHEDULE = (
    (CounterMetricFamily, "runs", "runs", "Runs of the periodic job, those out of turn included."),
    (CounterMetricFamily, "skipped", "skipped", "Fires that did not run since the run before had not ended."),
    (CounterMetricFamily, "missed", "missed", "Fire times that came too late to be run."),
    (GaugeMetricFamily, "overdue_seconds", "overdue_s", "How long its next fire has been due."),
)
"""Kind and name of a family, field of Schedule, help."""


class Demand(msgspec.Struct, frozen=True):
    """One process and how many jobs wait for it or are being done."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class Scrape:
    """A collector of all families."""

    operations: Operations
    capacity: tuple[tuple[str, int], ...] = ()

    def collect(self) -> Iterator[Metric]:
        """Entries, orders, queues, workers, scheduler, Redis."""
        now, people = self.operations, self.operations.people
        yield CounterMetricFamily("turnstile_entries_accepted", "Events answered 202.", people.accepted)
        yield CounterMetricFamily("turnstile_entries_counted", "Events counted; accepted = counted + pending.", people.counted)
        yield GaugeMetricFamily("turnstile_entries_pending", "Events accepted and not yet counted.", people.pending)
        yield GaugeMetricFamily("turnstile_entries_lag_seconds", "Age of the oldest pending event.", people.lag_s)
        yield GaugeMetricFamily("turnstile_occupancy", "People in the mall, of those counted.", people.occupancy)
        full = GaugeMetricFamily("turnstile_over_capacity", "1 while too many people are there; no gate: all.", labels=["gate"])
        crowded = {crowd.gate for crowd in alerts.crowds(people, self.capacity)}
        for gate, _limit in self.capacity:
            full.add_metric([gate], gate in crowded)
        yield full
        orders = GaugeMetricFamily("turnstile_orders", "Orders by status, those deleted by cleanup included.", labels=["status"])
        for status, count in now.orders.items():
            orders.add_metric([status], count)
        yield orders
        yield from self._of_queues()
        yield self._of_workers()
        yield from self._of_breakers()
        yield GaugeMetricFamily("turnstile_dead_letters", "Dead letters that wait for an operator.", now.dead_letters)
        yield GaugeMetricFamily("turnstile_scheduler_up", "1 while a scheduler leads.", now.scheduler_up)
        if now.heartbeat_age_s is not None:
            help_text = "Time since the leading scheduler's last heartbeat."
            yield GaugeMetricFamily("turnstile_scheduler_heartbeat_age_seconds", help_text, now.heartbeat_age_s)
        done = CounterMetricFamily("turnstile_scheduler_done", "What schedulers have done, by kind.", labels=["what"])
        for what, count in ({"promoted": 0, "reclaimed": 0} | now.done).items():
            done.add_metric([what], count)
        yield done
        yield from self._of_time()
        yield GaugeMetricFamily("turnstile_redis_memory_bytes", "Memory that Redis has in use.", now.memory_bytes)
        yield GaugeMetricFamily("turnstile_redis_memory_max_bytes", "Redis' maxmemory; 0 without.", now.max_memory_bytes)

    def _of_time(self) -> Iterator[Metric]:
        delayed = self.operations.delayed
        yield GaugeMetricFamily("turnstile_scheduler_lag_seconds", "How late the earliest due job is.", delayed.lag_s)
        yield GaugeMetricFamily("turnstile_scheduler_epoch", "How often the lead changed hands.", self.operations.epoch)
        jobs = GaugeMetricFamily(
            "turnstile_scheduled_jobs", "Jobs that wait for their time, by the key of the set.", labels=["set"]
        )
        for key, count in sorted(delayed.jobs.items()):
            jobs.add_metric([key], count)
        yield jobs
        for kind, name, field, help_text in OF_A_SCHEDULE:
            family = kind(f"turnstile_periodic_{name}", help_text, labels=["name"])
            for schedule in self.operations.schedules:
                family.add_metric([schedule.name], getattr(schedule, field))
            yield family

    def _of_queues(self) -> Iterator[Metric]:
        for kind, name, field, help_text in OF_A_QUEUE:
            family = kind(f"turnstile_{name}", help_text, labels=["queue"])
            for queue in self.operations.queues:
                family.add_metric([queue.name], getattr(queue, field))
            yield family

    def _of_breakers(self) -> Iterator[Metric]:
        help_text = "1 for the state that the circuit of the downstream is in."
        states = GaugeMetricFamily("turnstile_breaker_state", help_text, labels=["breaker", "state"])
        for breaker in self.operations.breakers:
            for circuit in Circuit:
                states.add_metric([breaker.name, circuit], breaker.state == circuit)
        yield states
        for name, field, help_text in OF_A_BREAKER:
            family = CounterMetricFamily(f"turnstile_breaker_{name}", help_text, labels=["breaker"])
            for breaker in self.operations.breakers:
                family.add_metric([breaker.name], getattr(breaker, field))
            yield family

    def _of_workers(self) -> Metric:
        known = {queue.name for queue in self.operations.queues}
        found = Counter(
            (name, worker.state)
            for worker in self.operations.workers
            for queue in worker.queues
            for name in served(queue)
            if name == queue or name in known
        )
        family = GaugeMetricFamily("turnstile_workers", "Live workers, at each queue that they serve.", labels=["queue", "state"])
        # Zeros as well: an alert on `== 0` needs a sample when the last worker is gone.
        zeros = {(name, worker_state) for name in known for worker_state in ("idle", "busy")}
        for name, worker_state in sorted(zeros | found.keys()):
            family.add_metric([name, worker_state], found[name, worker_state])
        return family


async def metrics(request: Request) -> Response:
    """Prometheus' text format, or OpenMetrics where the scraper asks for it."""
    here = state(request)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    text = encode(Scrape(await read(here, time.time()), here.settings.capacity))
    # Not media_type: Starlette would append a second charset.
    return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


async def hirefire(request: Request) -> Response:
    """The demand of each process of the Procfile that runs jobs; 404 unless the token in the path is ours."""
    here, given = state(request), request.path_params["token"]
    token = here.settings.hirefire_token
    if not token or not hmac.compare_digest(given.encode(), token.encode()):
        raise HTTPException(404)
    queues = await run_in_threadpool(overview.queues, here.sync_redis, time.time())
    jobs: Counter[str] = Counter()
    for queue in queues:  # more workers are no help to jobs that their limits hold
        jobs[base(queue.name)] += queue.depth - queue.held + queue.started
    return answer([Demand(name, sum(jobs[queue] for queue in queues)) for name, queues in PROCESSES.items()])


OPERATIONS = (
    Operation("GET", "/metrics", metrics, "Prometheus metrics.", response_media_types=("text/plain",)),
    Operation(
        "GET",
        "/hirefire/{token}/info",
        hirefire,
        "Jobs ready and started, for each process of the Procfile that runs them.",
        response=list[Demand],
        scopes=ANYBODY,  # the token in the path is the key
    ),
)
