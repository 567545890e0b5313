"""One whole run: a system of its own, load, faults, rest, judgement. The command and the short run are both made of it."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import observed
import redis
from carriers import Carrier
from faults import Fault, Kind
from fleet import Fleet
from history import History, read
from history import Kind as Recorded
from ledger import Ledger
from load import STOCK, Load, Rates
from nemesis import KINDS, Nemesis
from processes import ROOT, Processes
from sampler import Sampler
from servers import Server
from verdict import Verdict, judge

from jobs import connections

KILLS = frozenset({"kill", "kill-all", "kill-child", "redis-kill"})
TICK_S = 0.2
CALM_S = 3.0
"""The load goes on so long after the last fault, so that what it left behind shows."""
STOP_LIMIT_S = 40.0
PER_PROCESS = 40
"""Connections to Redis; no process needs more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done. The run ends after `seconds`, and, where `kills` is given, not before there were so many SIGKILLs.

    `stock`: with unmodified `rq.Worker`s beside ours. What one held when it was killed is back when RQ says so: after 90 s.
    """

    seconds: float
    seed: int
    rates: Rates = field(default_factory=Rates)
    kills: int = 0
    fsync: str = "always"
    stock: bool = True
    kinds: Sequence[Kind] = KINDS


@dataclass(slots=True)
class State:
    """How far a run has come."""

    began_at: float
    faults: Counter[str]
    load: Load

    @property
    def kills(self) -> int:
        """SIGKILLs so far."""
        return sum(count for name, count in self.faults.items() if name in KILLS)


Say = Callable[[str, State], None]
"""Told what the run is doing, many times a second."""


def run(plan: Plan, folder: Path, say: Say, tree: Path | None = None) -> Verdict:
    """Runs it in the folder, where history and logs stay, and judges it. What does not come to rest has lost something."""
    with _ground(plan, folder, tree) as (fleet, processes):
        history = History(folder / "history.jsonl")
        try:
            asyncio.run(_torment(plan, fleet, history, say))
            client: redis.Redis = connections.connect(fleet.direct_url)
            ledger = Ledger.of(read(history.path))
            final = observed.observe(ledger, client, fleet.urls[0], fleet.carrier.url)
            final.max_connections = PER_PROCESS * len(fleet.names)
            client.close()
        finally:
            history.close()
        final.leaks = _leaks(fleet, processes)
    return judge(read(history.path), final)


async def _torment(plan: Plan, fleet: Fleet, history: History, say: Say) -> None:
    """Load and faults until the plan is fulfilled, then calm, then rest, under the eye of the sampler all the time."""
    load = Load(history, fleet.urls, plan.rates, seed=plan.seed, redis_url=fleet.direct_url)
    state = State(time.monotonic(), Counter(), load)

    def note(fault: Fault) -> None:
        state.faults[fault.name] += 1
        history.append(
            Recorded.FAULT,
            fault.name,
            fault.target,
            role=fault.role,
            error=fault.detail,
            began_at=fault.began_at,
            healed_at=fault.healed_at,
        )

    def enough() -> bool:
        return time.monotonic() - state.began_at >= plan.seconds and state.kills >= plan.kills

    sampler = Sampler(history, fleet.urls, fleet.direct_url, STOCK, seed=plan.seed)
    nemesis = Nemesis(fleet, plan.seed, kinds=plan.kinds)
    async with _until_left(sampler.run):
        async with _until_left(load.run):
            async with _until_left(lambda ended: nemesis.run(ended, note)):
                await _while(lambda: not enough(), "tormenting", state, say)
            calm_until = time.monotonic() + CALM_S
            await _while(lambda: time.monotonic() < calm_until, "faults have ended", state, say)
        say("waiting for rest", state)
        client: redis.Redis = connections.connect(fleet.direct_url)
        await asyncio.to_thread(observed.settle, client)
        client.close()
        for name in fleet.ended():  # by itself, after the last fault
            fleet.start(name)
        await asyncio.to_thread(fleet.ready)


@asynccontextmanager
async def _until_left(work: Callable[[asyncio.Event], Coroutine[object, object, None]]) -> AsyncIterator[None]:
    """Lets it work until the block is left, which waits for its end. What goes wrong on either side ends both."""
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(work(ended))
        yield
        ended.set()


async def _while(condition: Callable[[], bool], doing: str, state: State, say: Say) -> None:
    while condition():
        say(doing, state)
        await asyncio.sleep(TICK_S)


@contextmanager
def _ground(plan: Plan, folder: Path, tree: Path | None) -> Iterator[tuple[Fleet, Processes]]:
    """Redis, the carrier and the fleet, ready for the first request; ended, and Redis' data deleted, whatever happens."""
    server = Server(fsync=plan.fsync)
    foreign = ("TURNSTILE_", "REDIS_URL", "PYTHONPATH")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {"PYTHONPATH": str(ROOT)}
    folders = [folder / "processes", folder / "carrier"]
    for place in folders:
        place.mkdir()
    processes, carriers = (Processes(place, environ) for place in folders)
    with contextlib.ExitStack() as stack:
        stack.callback(server.remove)
        stack.callback(processes.end)
        stack.callback(carriers.end)
        server.start()
        carrier = Carrier.started(carriers, folders[1])
        stack.callback(carrier.close)
        fleet = Fleet(server, processes, carrier, proxied=True, stock=plan.stock, tree=tree, seed=plan.seed, **observed.ENVIRON)
        fleet.start()
        fleet.ready()
        yield fleet, processes


def _leaks(fleet: Fleet, processes: Processes) -> list[str]:
    """Tells every process to end. What does not, and what is left in the session of any that ever ran, is a leak."""
    running = [fleet.process(name) for name in fleet.names]
    for process in running:
        process.send(signal.SIGTERM)
    found = []
    for name, process in zip(fleet.names, running, strict=True):
        try:
            process.ended(STOP_LIMIT_S)
        except AssertionError:
            found.append(f"{process.pid}: {name} does not end")
    ended = (process for process in processes.started if not process.runs)
    return found + [f"{pid}: of {process.name}" for process in ended for pid in process.children()]
