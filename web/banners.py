"""What an operator must know first. Pure: from what was read to the banners, the worst on top."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from jobs.mall import alerts
from jobs.queue.breaker import Circuit
from jobs.queue.priorities import served
from jobs.settings import Settings
from web.admission import Kind
from web.html import span
from web.operations import Operations

QUEUES_NAMED = 5
MAX_LAG_S = 5.0


@dataclass(frozen=True, slots=True)
class Banner:
    """`advice` says what to do. Whatever ticks stands there: a title that changes is read out again."""

    level: Literal["alarm", "warning", "note"]
    title: str
    advice: str


REDIS_AWAY = Banner(
    "alarm",
    "Redis does not answer",
    "Nothing new is accepted and no job runs until it is back; what was accepted is kept. This page comes back by itself.",
)


def banners(operations: Operations, settings: Settings, refused: Mapping[Kind, str]) -> list[Banner]:
    """All banners that hold now: first what stands still, then what somebody should look at, then what is good to know.

    `refused` is the new work that is not admitted, and why.
    """
    return [*_alarms(operations), *_refusals(refused), *_others(operations, settings)]


def _alarms(operations: Operations) -> Iterator[Banner]:
    if not operations.scheduler_up:
        since = "yet" if operations.heartbeat_age_s is None else f"for {span(operations.heartbeat_age_s)}"
        advice = f"No heartbeat {since}: retries and delays stand still, crashed jobs wait. Start one: python -m scheduler"
        yield Banner("alarm", "No scheduler leads", advice)
    if operations.suspended:
        yield Banner("alarm", "All workers are suspended", "They claim nothing until `rq resume` is run.")
    known = {name for worker in operations.workers for queue in worker.queues for name in served(queue)}
    lonely = [queue for queue in operations.queues if queue.depth and queue.name not in known]
    for queue in lonely[:QUEUES_NAMED]:
        advice = f"{_waits(queue.depth, 'job')}. Start the Procfile's process for it."
        yield Banner("alarm", f"No worker serves queue {queue.name}", advice)
    if more := lonely[QUEUES_NAMED:]:
        yield Banner("alarm", f"No worker serves {len(more):,} more queues", f"{_waits(sum(q.depth for q in more), 'job')}.")


def _refusals(refused: Mapping[Kind, str]) -> Iterator[Banner]:
    for kind in (Kind.ENTRIES, Kind.ORDERS):
        if kind in refused:
            advice = f"{refused[kind]}. What was accepted is worked off; start more workers or give Redis more memory."
            yield Banner("alarm", f"New {kind} are refused", advice)


def _others(operations: Operations, settings: Settings) -> Iterator[Banner]:
    for crowd in alerts.crowds(operations.people, settings.capacity):
        advice = f"{crowd.people:,} people, at most {crowd.capacity:,} may be there. When it began is in /v1/alerts."
        yield Banner("alarm", f"Too many people at {crowd.gate}" if crowd.gate else "Too many people in the mall", advice)
    if operations.scheduler_up and operations.delayed.lag_s > MAX_LAG_S:
        advice = f"The earliest due job waits since {span(operations.delayed.lag_s)}: see what {operations.scheduler} logs."
        yield Banner("warning", "The scheduler is behind", advice)
    for breaker in operations.breakers:
        if breaker.state is Circuit.OPEN:
            advice = "Its calls fail: jobs that need it wait, burn no attempt and go on by themselves once it answers again."
            yield Banner("warning", f"The circuit of {breaker.name} is open", advice)
    if operations.dead_letters:
        advice = "Mend the cause, then redrive them below."
        yield Banner("warning", _waits(operations.dead_letters, "dead letter"), advice)
    paused = [queue.name for queue in operations.queues if queue.paused]
    if paused:
        advice = "Turnstile's workers claim nothing there until it is resumed below."
        more = f" and {len(paused) - QUEUES_NAMED:,} more" if len(paused) > QUEUES_NAMED else ""
        yield Banner("note", f"Paused: {', '.join(paused[:QUEUES_NAMED])}{more}", advice)
    if not settings.asks_for_keys:
        advice = "Everybody on this machine may do everything here. A key opens it to others: see `python3 -m jobs keys`."
        yield Banner("note", "Running without API keys, on loopback only", advice)


def _waits(count: int, what: str) -> str:
    return f"1 {what} waits" if count == 1 else f"{count:,} {what}s wait"
