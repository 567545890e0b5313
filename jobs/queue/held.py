"""The jobs in a worker's hands: each from its claim until its end is written. Whatever is here, the worker keeps the lease of."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import redis

from jobs import crash_points, log, trace
from jobs.queue import claiming, ending
from jobs.queue.acks import Acks, Ended
from jobs.queue.claiming import Claims
from jobs.queue.clock import Clock
from jobs.queue.ending import Claim, Written
from jobs.queue.outcome import Outcome
from jobs.queue.script import Invocation, exchange

NOTHING = Claims([], None)
LOST_AGAIN_S = 1.0
"""A claim whose reply was lost may still lie in the socket of a server that stood still: it is looked for twice."""
CLOCKS_DIFFER_S = 0.01
"""By more than a machine's clock is exact: what a job's end says of time is put right."""
logger = log.get("worker")


class Held:
    """What one worker has claimed. Claims are stamped with the server's clock."""

    def __init__(self, client: redis.Redis, worker: str, lease_s: float, clock: Clock) -> None:
        self._client, self._worker, self._lease_s, self._clock = client, worker, lease_s, clock
        self._claims: dict[str, Claim] = {}
        self._ended: set[str] = set()
        self._lost: set[str] = set()
        self._acks = Acks(self._on_written)
        self._prefix, self._executions = f"{os.urandom(6).hex()}-", 0
        self._doubts: list[float] = []
        self._doubted = 0
        self._found = NOTHING

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def unended(self) -> int:
        """How many run, or wait to."""
        return len(self._claims) - len(self._ended)

    @property
    def unwritten(self) -> int:
        """How many have ended, and Redis does not know."""
        return len(self._ended)

    def runs(self, member: str) -> bool:
        """Whether the job runs, or waits to."""
        return member in self._claims and member not in self._ended

    @property
    def returning(self) -> bool:
        """Whether jobs are on their way back to their queues, and nothing is to be claimed before them."""
        return self._acks.returning

    @property
    def in_doubt(self) -> bool:
        """Whether it is time to look for jobs that a claim took whose reply was lost."""
        return bool(self._doubts) and time.monotonic() >= self._doubts[0]

    def leases(self) -> dict[str, list[str]]:
        """Queue -> members of its rq:wip, but for those whose lease was lost."""
        members: dict[str, list[str]] = defaultdict(list)
        for member, claim in self._claims.items():
            if member not in self._lost:
                members[claim.queue].append(member)
        return members

    def lose(self, members: Iterable[str]) -> None:
        """These leases are lost; an end that was written, but whose reply was lost, is no news."""
        for member in (self._claims.keys() & set(members)) - self._lost:
            self._lost.add(member)
            if member not in self._ended:
                logger.warning("lease lost while the job runs", job_id=self._claims[member].id)

    def end(self, claim: Claim, outcome: Outcome) -> None:
        """The job has ended, by this machine's clock: to be written with the next exchange."""
        if abs(self._clock.ahead_s) > CLOCKS_DIFFER_S:
            outcome = outcome.shifted(self._clock.ahead_s)
        self._ended.add(claim.member)
        self._acks.add(claim, outcome)

    def hand_back(self, claims: Sequence[Claim]) -> None:
        """The jobs have not begun, or were ended by force: to go back to the front of their queues, in their order."""
        for claim in claims:
            self.end(claim, Outcome("handed back", claim.text(b"task"), self._clock.local()))

    def found(self) -> Claims:
        """What the last exchange has claimed, once."""
        found, self._found = self._found, NOTHING
        return found

    def exchange(self, queues: Sequence[str], wanted: int) -> None:
        """Writes what has ended and claims as many jobs as are wanted, in one round trip but for what must be written alone.

        May be repeated whenever it raises RedisError; `found` may have something even then.
        """
        now = self._clock.now()
        if self.in_doubt:
            number = ending.hand_back_lost(self._client, queues, self._prefix, self._claims, now, below=self._doubted)
            del self._doubts[0]
            if number:
                logger.warning("a claim's reply was lost", handed_back=number)
        batches = self._acks.batches()
        calls = [self._acks.invocation(batch) for batch in batches]
        if wanted:
            calls.append(self.asking(queues, wanted, now))
        if calls:
            self._take(self._replies(calls, wanted), batches, wanted)
        self._acks.write_alone(self._client)

    def asking(self, queues: Sequence[str], wanted: int, now: float | None = None) -> Invocation:
        """What claims so many jobs, at `now` or whenever the server comes to it."""
        executions = [f"{self._prefix}{self._executions + n:x}" for n in range(wanted)]
        self._executions += wanted
        crash_points.reach("claim.asked")
        return claiming.asking(queues, self._worker, self._lease_s, now=now, executions=executions)

    def claimed(self, reply: Any) -> None:
        """What a claim has answered, which `found` tells then; an error may have come after it took jobs. Raises RedisError."""
        if isinstance(reply, redis.exceptions.RedisError):
            self.doubt()  # a script that breaks has done what it did
            raise reply
        crash_points.reach("claim.answered")
        self._found = claiming.found(reply, self._worker, self._clock.now())
        self._claims.update((claim.member, claim) for claim in self._found.jobs)

    def doubt(self) -> None:
        """The reply to a claim is lost. What is asked from now on may be answered yet."""
        now = time.monotonic()
        self._doubted = self._executions
        self._doubts = [now, now + LOST_AGAIN_S]

    def _replies(self, calls: Sequence[Invocation], wanted: int) -> list[Any]:
        try:
            return exchange(self._client, calls)
        except redis.exceptions.RedisError:
            if wanted:
                self.doubt()
            raise

    def _take(self, replies: list[Any], batches: list[list[Ended]], wanted: int) -> None:
        claim = replies.pop() if wanted else None
        refusals = [reply for batch, reply in zip(batches, replies, strict=True) if not self._acks.takes(batch, reply)]
        if wanted:
            self.claimed(claim)
        if refusals:
            raise refusals[0]

    def _on_written(self, claim: Claim, outcome: Outcome, how: Written | None) -> None:
        self._claims.pop(claim.member, None)
        self._ended.discard(claim.member)
        self._lost.discard(claim.member)
        level, event = logger.warning, str(outcome.what)
        if how is None:
            event = f"{event}, not written"
        elif how is Written.LEASE_LOST:
            event = "lease lost, nothing written"
        elif event == "finished":
            level = logger.debug
        duration_s = round(outcome.ended_at - claim.started_at, 3)
        with trace.within(claim.trace):
            level(event, job_id=claim.id, queue=claim.queue, attempt=claim.attempt, duration_s=duration_s, **outcome.note())
