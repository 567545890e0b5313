"""What the operations page shows, read at one moment: each part consistent in itself, all of it in about a dozen round trips."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import redis
from starlette.concurrency import run_in_threadpool

from jobs import keys
from jobs.mall import footfall, order_store
from jobs.mall.footfall import Summary
from jobs.queue import dead_letters, overview, schedules
from jobs.queue.dead_letters import DeadLetter, Group
from jobs.queue.overview import QueueInfo, WorkerInfo
from jobs.queue.schedules import Schedule
from web.state import State
from web.vitals import Vitals, vitals

PATIENCE_S = 3.0
GROUPED = 500
"""How many of the newest dead letters are grouped: a flood of them must not make the page slow."""
ACTIONS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class OperatorAction:
    """One entry of the audit trail; `at` is Unix seconds."""

    at: float
    what: str
    who: str
    target: str


@dataclass(frozen=True, slots=True)
class Queueing:
    """The queue's part: read on one sync connection. `letters` are the newest dead letters, `groups` counts those."""

    queues: list[QueueInfo]
    workers: list[WorkerInfo]
    schedules: list[Schedule]
    letters: list[DeadLetter]
    groups: list[Group]
    vitals: Vitals
    actions: list[OperatorAction]


@dataclass(frozen=True, slots=True)
class Operations:
    """Everything on the page, as of `now` (Unix seconds)."""

    now: float
    people: Summary
    orders: dict[str, int]
    queueing: Queueing


async def read(here: State, now: float) -> Operations:
    """Reads it all. Raises TimeoutError when Redis hangs, and what redis-py raises when it is away."""
    async with asyncio.timeout(PATIENCE_S):
        people = await footfall.summary(here.redis, zone=here.zone, now=now)
        orders = await order_store.counts(here.redis)
    return Operations(now, people, orders, await run_in_threadpool(_queueing, here.sync_redis, now))


def _queueing(client: redis.Redis, now: float) -> Queueing:
    letters, _more = dead_letters.page(client, group=None, cursor=None, limit=GROUPED)
    return Queueing(
        queues=overview.queues(client, now),
        workers=overview.workers(client),
        schedules=schedules.schedules(client, now),
        letters=letters,
        groups=_grouped(letters),
        vitals=vitals(client, now),
        actions=_last_actions(client),
    )


def _grouped(letters: list[DeadLetter]) -> list[Group]:
    counts = Counter(letter.group for letter in letters)
    newest = {letter.group: letter for letter in reversed(letters)}
    return [
        Group(group, newest[group].task, newest[group].error_type, newest[group].error, number)
        for group, number in counts.most_common()
    ]


def _last_actions(client: redis.Redis) -> list[OperatorAction]:
    found = []
    for _entry, fields in client.xrevrange(keys.AUDIT, count=ACTIONS_SHOWN):
        text = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
        found.append(OperatorAction(float(text.get("at", 0)), text.get("what", ""), text.get("who", ""), text.get("target", "")))
    return found
