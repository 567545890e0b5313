"""What an operator must know first. Pure: from what was read to the banners, the worst on top."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from jobs.settings import Settings
from web.admission import Kind, Load, refusal
from web.html import number, span
from web.operations import Operations, Queueing


class Level(StrEnum):
    """How bad it is: something stands still, somebody should look, good to know."""

    ALARM = "alarm"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Banner:
    """One banner; `advice` says what to do. Whatever ticks stands there: a title that changes is read out again."""

    level: Level
    title: str
    advice: str


REDIS_AWAY = Banner(
    Level.ALARM,
    "Redis does not answer",
    "Nothing new is accepted and no job runs until it is back; what was accepted is kept. This page comes back by itself.",
)


def banners(operations: Operations, settings: Settings) -> list[Banner]:
    """All banners that hold now."""
    queueing = operations.queueing
    found = [*_standstill(queueing), *_refusals(queueing, settings), *_dead(queueing), *_notes(queueing, settings)]
    return sorted(found, key=lambda banner: list(Level).index(banner.level))


def _standstill(queueing: Queueing) -> Iterator[Banner]:
    vitals = queueing.vitals
    if not vitals.scheduler_up:
        since = "yet" if vitals.heartbeat_age_s is None else f"for {span(vitals.heartbeat_age_s)}"
        advice = f"No heartbeat {since}: retries and delays stand still, crashed jobs wait. Start one: python -m scheduler"
        yield Banner(Level.ALARM, "No scheduler leads", advice)
    if vitals.suspended:
        yield Banner(Level.ALARM, "All workers are suspended", "They claim nothing until `rq resume` is run.")
    served = {name for worker in queueing.workers for name in worker.queues}
    for queue in queueing.queues:
        if queue.depth and queue.name not in served:
            jobs = "1 job waits" if queue.depth == 1 else f"{number(queue.depth)} jobs wait"
            yield Banner(Level.ALARM, f"No worker serves queue {queue.name}", f"{jobs}. Start the Procfile's process for it.")


def _refusals(queueing: Queueing, settings: Settings) -> Iterator[Banner]:
    vitals = queueing.vitals
    share = vitals.memory_bytes / vitals.max_memory_bytes if vitals.max_memory_bytes else 0.0
    load = Load({queue.name: queue.oldest_age_s for queue in queueing.queues if not queue.paused}, share)
    for kind in (Kind.ENTRIES, Kind.ORDERS):
        reason = refusal(kind, load, max_age_s=settings.max_queue_age_s, max_share=settings.max_memory_share)
        if reason is not None:
            advice = f"{reason}. What was accepted is worked off; start more workers or give Redis more memory."
            yield Banner(Level.ALARM, f"New {kind} are refused", advice)


def _dead(queueing: Queueing) -> Iterator[Banner]:
    n_dead = queueing.vitals.dead_letters
    if n_dead:
        title = "1 dead letter waits" if n_dead == 1 else f"{number(n_dead)} dead letters wait"
        yield Banner(Level.WARNING, title, "Mend the cause, then redrive them below; nothing of them expires.")


def _notes(queueing: Queueing, settings: Settings) -> Iterator[Banner]:
    paused = [queue.name for queue in queueing.queues if queue.paused]
    if paused:
        title = f"Paused: {', '.join(paused)}"
        yield Banner(Level.NOTE, title, "Turnstile's workers claim nothing there until it is resumed below.")
    if not settings.api_keys:
        advice = "Everybody on this machine may do everything here. TURNSTILE_API_KEYS opens it to others."
        yield Banner(Level.NOTE, "Running without API keys, on loopback only", advice)
