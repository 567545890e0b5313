"""Does seeded faults to a fleet, several at a time but never two to one target, and undoes them all at the end.

The seed alone decides which faults there are, to whom, for how long and in which order; when each begins depends also on how long
its target was busy with the one before.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import faults_net
import faults_redis
import faults_signals
import redis
from faults import NOBODY, Fault, Kind
from fleet import Fleet

from jobs import keys

KINDS: tuple[Kind, ...] = (*faults_signals.KINDS, *faults_redis.KINDS, *faults_net.KINDS)
PAUSE_S = (0.2, 2.0)
TEND_S = 0.2
ASK_S = 2.0

Note = Callable[[Fault], None]


@dataclass(frozen=True, slots=True)
class Draw:
    """A fault to come, and how long after its beginning the next one is to wait."""

    kind: Kind
    target: str
    hold_s: float
    pause_s: float
    seed: int


def draws(fleet: Fleet, seed: int, kinds: Sequence[Kind] = KINDS) -> Iterator[Draw]:
    """All faults of a seed, without end. Kinds that have no target in this fleet are left out."""
    chance = random.Random(seed)
    possible = [kind for kind in kinds if kind.targets(fleet)]
    while True:
        [kind] = chance.choices(possible, [kind.weight for kind in possible])
        target = chance.choice(kind.targets(fleet))
        yield Draw(kind, target, chance.uniform(*kind.hold_s), chance.uniform(*PAUSE_S), chance.getrandbits(64))


class Nemesis:
    """`kinds` are drawn by their weights; at most `at_once` faults last at a time."""

    def __init__(self, fleet: Fleet, seed: int, *, kinds: Sequence[Kind] = KINDS, at_once: int = 3) -> None:
        self._fleet = fleet
        self._draws = draws(fleet, seed, kinds)
        self._busy: dict[str, asyncio.Lock] = {}
        self._places = asyncio.Semaphore(at_once)
        self._note: Note = lambda _fault: None

    async def run(self, ended: asyncio.Event, note: Note) -> None:
        """Until `ended`; every fault is noted once it is undone."""
        self._note = note
        async with asyncio.TaskGroup() as group:
            tending = group.create_task(self._tend())
            deeds: set[asyncio.Task[None]] = set()
            while not ended.is_set():
                draw = next(self._draws)
                await self._places.acquire()
                lock = self._busy.setdefault(draw.target, asyncio.Lock())
                await lock.acquire()
                if ended.is_set():
                    break
                deeds.add(group.create_task(self._do(draw, lock)))
                await _either(ended, draw.pause_s)
            await asyncio.gather(*deeds)
            tending.cancel()

    async def _do(self, draw: Draw, lock: asyncio.Lock) -> None:
        fault = Fault(draw.kind.name, await self._role(draw.target), draw.target)
        try:
            async with draw.kind.deed(self._fleet, draw.target, random.Random(draw.seed)) as fault.detail:
                await asyncio.sleep(draw.hold_s)
            fault.healed_at = time.time()
            if fault.detail != NOBODY:
                self._note(fault)
        finally:
            lock.release()
            self._places.release()

    async def _tend(self) -> None:
        """Starts what has ended without being told to, as stock workers do when Redis dies, and notes it."""
        while True:
            for name in self._fleet.ended():
                if name in self._busy and self._busy[name].locked():
                    continue
                fault = Fault("ended", self._fleet.role(name), name, detail=f"exit code {self._fleet.process(name).ended(0)}")
                self._fleet.start(name)
                fault.healed_at = time.time()
                self._note(fault)
            await asyncio.sleep(TEND_S)

    async def _role(self, target: str) -> str:
        """Of two schedulers one leads and one follows; it is not known which while Redis is away."""
        if self._fleet.role(target) != "scheduler":
            return self._fleet.role(target)
        try:
            async with asyncio.timeout(ASK_S), faults_redis.admin(self._fleet) as client:
                leads = int(await client.hget(keys.SCHEDULER, "pid") or 0) == self._fleet.process(target).pid
        except (TimeoutError, redis.exceptions.RedisError):
            return "scheduler"
        return "leader" if leads else "follower"


async def _either(ended: asyncio.Event, limit_s: float) -> None:
    try:
        await asyncio.wait_for(ended.wait(), limit_s)
    except TimeoutError:
        return
