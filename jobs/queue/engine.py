"""The engine of a worker: one thread that claims jobs, keeps their leases, and writes how they end.

    claim -> executor (runs them) -> ended -> ack, together with the next claim, in one round trip

Everything that this thread waits for is a file descriptor: the bell, what the executor has to say, commands, signals. While
Redis is away nothing is claimed, what ends is kept, and the jobs go on.
"""

import select
import time
from collections.abc import Sequence

import redis

from jobs import connections, crash_points, log
from jobs.errors import DrainTimeout, JobStopped
from jobs.queue.appetite import Appetite
from jobs.queue.bell import Bell
from jobs.queue.budget import Budget
from jobs.queue.claiming import Claims
from jobs.queue.ending import Claim
from jobs.queue.heart import Heart
from jobs.queue.held import Held
from jobs.queue.outage import Outage
from jobs.queue.remote import Commands, Kind
from jobs.queue.surroundings import Bounds, Surroundings
from jobs.queue.suspects import Suspects

LOOK_S = 0.2
"""How late an idle worker sees a job that a stock client pushed, which rings no bell."""
GATHER_S = 0.005
"""How long the end of a job waits for others, and a free place for more of them, while the worker is busy."""
MANY = 50
"""Of so many nothing has to wait."""
ENFORCE_S = 0.05
GIVE_WAY_MS = 1
MAX_RUNG = 2
"""What the claim behind the bell takes at most; when it finds so many, more are asked for at once."""
STUCK_S = 0.1
"""Jobs that have not begun go back to their queue when nothing has moved for so long."""
INTERRUPTED_S = 0.1
"""So long the jobs that a drain interrupts are waited for, so that they go back together, in their order."""
LONG_AGO = float("-inf")
logger = log.get("worker")


class Engine:
    """One worker's engine; all its methods are called on its thread."""

    def __init__(self, around: Surroundings, bounds: Bounds) -> None:
        now = time.monotonic()
        self._around, self._bounds = around, bounds
        self._client, self._executor, self._drain = around.client, around.executor, around.drain
        self._bell = Bell(around.client, around.queues)
        self._commands = Commands(around.client, around.name)
        self._appetite = Appetite(now)
        self._budget = Budget()
        self._outage = Outage()
        self._held = Held(around.client, around.name, around.lease_s, around.registration.clock)
        self._suspects = Suspects()
        self._heart = Heart(around, self._held, self._budget)
        self._claimed = self._room = self._armed = 0
        self._holds_back = self._has_room = False
        self._look_at = self._enforce_at = self._talked_at = self._gather_until = LONG_AGO
        self._moved_at = now
        self.restarts = False
        """Whether the worker is to begin anew when it has stopped."""

    @property
    def reaches_redis(self) -> bool:
        """Whether Redis did what it was asked last."""
        return not self._outage

    def run(self) -> int:
        """Works until told to stop, or as far as the bounds go; returns the number of jobs that were claimed."""
        self._executor.start(self._heart.size)
        try:
            while not self._is_done(time.monotonic()):
                self._wait(time.monotonic())
                self._tick(time.monotonic())
        finally:
            self._executor.stop()
            self._bell.hang_up()
            self._commands.close()
        return self._claimed

    def forget_connections(self) -> None:
        """In a process that was forked: closes its copies of the sockets, which stay the parent's."""
        self._bell.forget()
        self._commands.forget()
        for connection in self._client.connection_pool._connections:  # the pool forgets them in a child, open
            connection.disconnect()

    def _is_done(self, now: float) -> bool:
        bounds = self._bounds
        if self._held or (self._held.in_doubt and now >= self._outage.until):
            return self._drain.gives_up(now)
        if bounds.max_idle_s is not None and now - self._moved_at > bounds.max_idle_s:
            self._drain.begin()
        enough = bounds.max_jobs is not None and self._claimed >= bounds.max_jobs
        if not (self._drain.asked or enough or (bounds.burst and self._look_at > now and not self._holds_back)):
            return False
        if self._bell.listens:  # the claim behind it may take jobs at this instant
            self._hang_up()
            return False
        return True

    # --- a tick ---------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._collect(now)
        if self._held and now >= self._enforce_at:
            self._executor.enforce(now)
            self._enforce_at = now + ENFORCE_S
        self._stop_what_must(now)
        if now < self._outage.until:
            return
        try:
            beats = now >= self._heart.next_at
            if beats:
                self._heart.beat(now)
                self._obey()  # also when no command has come: it connects again
            if self._suspects and now >= self._suspects.next_at(self._held.runs):
                self._submit([self._suspects.begin(self._client, now)])
            if self._talk(self._wanted(now), now) or beats:
                self._outage.is_over()
        except redis.exceptions.RedisError as error:
            self._is_away(error)

    def _is_away(self, error: redis.exceptions.RedisError) -> None:
        self._hang_up()
        self._client.connection_pool.disconnect()  # a server that has become a replica stays one: its name may lead elsewhere
        self._outage.goes_on(error)
        self._heart.greets = self._heart.greets or isinstance(error, connections.AWAY)

    def _hang_up(self) -> None:
        if self._bell.listens:
            self._bell.hang_up()
            self._held.doubt()

    def _collect(self, now: float) -> None:
        ended = self._executor.ended()
        for claim, outcome in ended:
            if outcome.is_execution:
                self._budget.count(outcome.task, outcome.what == "finished")
            self._held.end(claim, outcome)
        if ended:
            self._appetite.ended(len(ended))
            self._moved_at = now

    def _wanted(self, now: float) -> int:
        wanted = self._appetite.wanted(self._heart.size, self._held.unended, now)
        if self._bounds.max_jobs is not None:
            wanted = min(wanted, self._bounds.max_jobs - self._claimed)
        self._room = wanted
        self._has_room = wanted > 0 and not self._drain.asked
        return wanted if self._has_room and now >= self._look_at and not self._held.returning else 0

    def _talk(self, wanted: int, now: float) -> bool:
        """Writes what has ended and claims; whether there was anything to say."""
        held, ended = self._held, self._held.unwritten
        if not wanted and not ended and not held.in_doubt:
            return False
        until = LONG_AGO if max(wanted, ended) >= MANY else self._talked_at + GATHER_S
        if held.unended and now < max(until, self._gather_until):
            return False
        self._talked_at = now
        queues = self._around.queues
        try:
            held.exchange(self._around.order(queues) if wanted else queues, wanted)
        except redis.exceptions.RedisError:
            self._begin(held.found(), now)
            raise
        self._look_later(self._begin(held.found(), now), wanted, now)
        if ended and self._bounds.burst:
            self._look_at = LONG_AGO  # what has ended may have put jobs on the queues
        return True

    def _look_later(self, found: Claims, wanted: int, now: float) -> None:
        self._appetite.claimed(len(found.jobs), wanted, now)
        if len(found.jobs) < wanted:
            self._holds_back = found.wait_s is not None
            self._look_at = now + (LOOK_S if found.wait_s is None else min(LOOK_S, found.wait_s))

    def _begin(self, found: Claims, now: float) -> Claims:
        if found.jobs:
            self._claimed += len(found.jobs)
            self._room -= len(found.jobs)
            self._has_room = self._has_room and self._room > 0
            self._moved_at = time.monotonic()
            self._submit(self._suspects.sorted_out(found.jobs))
            crash_points.reach("claim.begun")
        return found

    def _submit(self, claims: Sequence[Claim]) -> None:
        self._executor.submit(claims, [self._budget.failing(claim.text(b"task")) for claim in claims])

    # --- commands, stopping ------------------------------------------------------------

    def _obey(self) -> None:
        for command in self._commands.read():
            logger.info("told by an operator", command=command.kind.value, job_id=command.job_id)
            match command.kind:
                case Kind.STOP_JOB:
                    self._executor.interrupt(JobStopped(), command.job_id)
                case Kind.KILL_HORSE:
                    self._executor.interrupt(JobStopped())
                case Kind.SHUTDOWN | Kind.RESTART:
                    self.restarts = command.kind is Kind.RESTART
                    self._drain.begin()

    def _stop_what_must(self, now: float) -> None:
        """Hands back what has not begun and cannot begin now, and while draining what does not end in time."""
        if self._drain.asked:
            self._hang_up()
            self._hand_back(self._suspects.take_back(), now)
        if self._held.unended > len(self._suspects) and (self._drain.asked or now > self._moved_at + STUCK_S):
            self._hand_back(self._executor.take_back(), now)
        if self._drain.interrupts(now):
            self._executor.interrupt(DrainTimeout())
            self._gather_until = now + INTERRUPTED_S
        if self._drain.abandons(now):
            self._collect(now)
            self._hand_back(self._executor.abandon(), now)

    def _hand_back(self, claims: Sequence[Claim], now: float) -> None:
        if claims:
            self._held.hand_back(claims)
            self._claimed -= len(claims)
            self._appetite.stuck(now)
            self._moved_at = now

    # --- waiting ------------------------------------------------------------------------------------

    def _wait(self, now: float) -> None:
        """Until there is something to do."""
        bell = None
        try:
            if not self._has_room:
                self._hang_up()  # what is rung for now would wait here
            elif not self._bell.listens and not self._bounds.burst and self._look_at > now >= self._outage.until:
                self._armed = min(self._room, MAX_RUNG)
                self._bell.listen(self._held.asking(self._around.order(self._around.queues), self._armed))
            bell = self._bell.fileno()
        except redis.exceptions.RedisError as error:
            self._is_away(error)
        poll, commands = select.poll(), self._commands.fileno()
        for descriptor in (*self._executor.readable(), self._drain.fileno(), bell, commands):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _event in poll.poll(max(0.0, self._wake_at(now) - now) * 1000)}
        if self._drain.fileno() in ready:
            self._drain.clear()
        if commands in ready:
            self._obey()
        if bell in ready:
            self._rung(time.monotonic())

    def _rung(self, now: float) -> None:
        try:
            self._held.claimed(self._bell.answer())
        except redis.exceptions.NoScriptError:  # of a server that has begun anew: the usual way heals it
            self._look_at = LONG_AGO
        except redis.exceptions.RedisError as error:
            self._held.doubt()
            self._is_away(error)
        else:
            found = self._begin(self._held.found(), now)
            self._look_later(found, self._armed, now)
            if found.jobs:
                self._give_way()
            if len(found.jobs) == self._armed:
                self._look_at = self._talked_at = LONG_AGO

    def _give_way(self) -> None:
        """Waits a moment for what has just begun: whatever this thread did now would keep it from the interpreter."""
        poll = select.poll()
        for descriptor in self._executor.readable():
            poll.register(descriptor, select.POLLIN)
        poll.poll(GIVE_WAY_MS)

    def _wake_at(self, now: float) -> float:
        at = self._drain.next_at()
        if self._held:
            at = min(at, self._enforce_at)
            if self._held.unended - len(self._suspects) > self._heart.size:
                at = min(at, self._moved_at + STUCK_S)
        if now < self._outage.until:
            return min(at, self._outage.until)
        at = min(at, self._heart.next_at)
        if self._suspects:
            at = min(at, self._suspects.next_at(self._held.runs))
        soon = max(now, self._talked_at + GATHER_S, self._gather_until) if self._held.unended else now
        if self._held.unwritten:
            at = min(at, soon)
        if self._has_room:
            at = min(at, max(self._look_at, soon))
        return at
