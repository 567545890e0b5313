"""The queue against a model of it in plain Python: whatever is done in whatever order, both say the same.

Time is an argument and nothing sleeps. After every step each list, each registry, each counter and each job is compared, so no
job is ever in two places or in none.
"""

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import hypothesis
import pytest
import redis
import sample_tasks
from hands import LEASE_S, PROMOTE, RECLAIM
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jobs import keys
from jobs.errors import Conflict, NotFound
from jobs.queue import calling, claiming, dead_letters, ending, job_store
from jobs.queue.attempts import failed_attempt
from jobs.queue.ending import MAX_CRASHES, Claim, Written
from jobs.queue.job import CANCELLED_TTL_S, JobSpec
from jobs.queue.task import Task
from jobs.settings import Settings

EXAMPLES = 200
"""Some 15 seconds; thousands look for what is rare."""
STEPS = 50
QUEUE = "default"
START = 1_763_764_205.0
RESULT_TTL_S = 500
UNFINISHED = ("queued", "started", "scheduled")
SECONDS = st.sampled_from([0.0, 0.5, 3.0, LEASE_S + 1, 60.0])
PICK = st.integers(0, 10**6)


@dataclass
class Job:
    """What the model knows of a job."""

    status: str
    unique: bool = False
    failures: int = 0
    crashes: int = 0
    redrives: int = 0
    deferred: int = 0
    expires_at: float | None = None


class QueueMachine(RuleBasedStateMachine):
    """Drives both."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.now = START
        self.numbers = itertools.count()
        self.jobs: dict[str, Job] = {}
        self.queue: list[str] = []
        self.wip: dict[str, float] = {}
        self.claims: dict[str, Claim] = {}
        self.stale: list[Claim] = []
        self.delayed: dict[str, float] = {}
        self.retried: dict[str, float] = {}
        self.dead: set[str] = set()
        self.finished: dict[str, float] = {}
        self.cancelled: dict[str, float] = {}
        self.totals: Counter[str] = Counter()
        self.holder: str | None = None
        self.lock = sample_tasks.single.spec().lock

    # --- the model's own moves ---------------------------------------------------------------

    def _push(self, job_id: str, *, front: bool = False) -> None:
        self.jobs[job_id].status = "queued"
        self.queue.insert(0 if front else len(self.queue), job_id)
        self.totals["enqueued"] += 1

    def _free(self, job_id: str) -> None:
        if self.holder == job_id:
            self.holder = None

    def _held(self) -> str | None:
        """The unfinished job that has the lock."""
        job = self.jobs.get(self.holder or "")
        return self.holder if job and job.status in UNFINISHED else None

    def _ended(self, claim: Claim) -> None:
        del self.wip[claim.member], self.claims[claim.id]
        self.stale.append(claim)

    def _buried(self, job_id: str) -> None:
        self.jobs[job_id].status, self.jobs[job_id].crashes = "failed", 0
        self._free(job_id)
        self.dead.add(job_id)
        self.totals["dead"] += 1

    def _dropped(self, job_id: str) -> None:
        self.jobs[job_id].status = "canceled"
        self._free(job_id)
        self.cancelled = {name: at for name, at in self.cancelled.items() if at > self.now}
        self.cancelled[job_id] = self.now + CANCELLED_TTL_S

    def _spec(self, task: Task, expires_s: float | None = None) -> JobSpec:
        calls = task.options(expires_s=expires_s)
        args = (1, 2) if task is sample_tasks.add else ()
        return task.build(calls.defaults, args, {}, job_id=f"j{next(self.numbers)}", now=self.now)

    # --- jobs come ---------------------------------------------------------------------------

    @rule(expires_s=st.none() | SECONDS.filter(bool), twice=st.booleans())
    def enqueue(self, expires_s: float | None, twice: bool) -> None:
        spec = self._spec(sample_tasks.add, expires_s)
        assert calling.place(self.client, spec, now=self.now) == (spec.id, True)
        self.jobs[spec.id] = Job("queued", expires_at=None if expires_s is None else self.now + expires_s)
        self._push(spec.id)
        if twice:
            assert calling.place(self.client, spec, now=self.now + 1) == (spec.id, False)

    @rule(delay_s=SECONDS)
    def enqueue_later(self, delay_s: float) -> None:
        spec = self._spec(sample_tasks.add)
        assert calling.place(self.client, spec, now=self.now, due_at=self.now + delay_s) == (spec.id, True)
        self.jobs[spec.id] = Job("scheduled")
        self.delayed[spec.id] = self.now + delay_s

    @rule(delay_s=st.none() | SECONDS)
    def enqueue_unique(self, delay_s: float | None) -> None:
        spec, held = self._spec(sample_tasks.single), self._held()
        due_at = None if delay_s is None else self.now + delay_s
        assert calling.place(self.client, spec, now=self.now, due_at=due_at) == (held or spec.id, not held)
        if held:
            return
        self.holder = spec.id
        self.jobs[spec.id] = Job("scheduled", unique=True)
        if due_at is None:
            self._push(spec.id)
        else:
            self.delayed[spec.id] = due_at

    @rule(n=st.integers(1, 4))
    def enqueue_many(self, n: int) -> None:
        specs, held = [self._spec(sample_tasks.add) for _ in range(n)], self._held()
        specs[n // 2 : n // 2] = [self._spec(sample_tasks.single), self._spec(sample_tasks.single)]
        answers = calling.place_many(self.client, specs, now=self.now)
        for spec, answer in zip(specs, answers, strict=True):
            holder = held if spec.lock else None
            assert answer == (holder or spec.id, not holder)
            if holder is None:
                self.jobs[spec.id] = Job("queued", unique=bool(spec.lock))
                self._push(spec.id)
            if spec.lock and held is None:
                self.holder = held = spec.id

    # --- jobs run ----------------------------------------------------------------------------

    @rule(n=st.integers(1, 3))
    def claim(self, n: int) -> None:
        for _ in range(n):
            self._claim()

    def _claim(self) -> None:
        execution = f"e{next(self.numbers)}"
        found = claiming.claim(self.client, [QUEUE], "w", LEASE_S, now=self.now, executions=[execution]).jobs
        assert [claim.id for claim in found] == self.queue[:1]
        if not found:
            return
        [claim] = found
        job = self.jobs[self.queue.pop(0)]
        assert (claim.attempt, claim.number(b"crashes", 0)) == (job.failures + 1, job.crashes)
        assert claim.seconds(b"expires_at", 0.0) == (job.expires_at or 0.0)
        job.status = "started"
        self.wip[claim.member], self.claims[claim.id] = self.now + LEASE_S, claim
        if job.expires_at is not None and job.expires_at < self.now and not job.failures and not job.crashes:
            assert ending.expire(self.client, claim, self.now) is Written.NOW
            self._ended(claim)
            self._dropped(claim.id)
            self.totals["expired"] += 1

    def _some(self, pick: int) -> Claim:
        """A job that runs; when none does, one is claimed first."""
        while not self.claims:
            hypothesis.assume(self.queue)
            self._claim()
        return list(self.claims.values())[pick % len(self.claims)]

    @precondition(lambda self: self.claims or self.queue)
    @rule(pick=PICK, kept=st.booleans())
    def finish(self, pick: int, kept: bool) -> None:
        claim = self._some(pick)
        assert ending.finish(self.client, claim, self.now, b"3", RESULT_TTL_S if kept else 0) is Written.NOW
        self._ended(claim)
        self._free(claim.id)
        self.totals["finished"] += 1
        self.finished = {name: at for name, at in self.finished.items() if at > self.now}
        if kept:
            self.jobs[claim.id].status, self.jobs[claim.id].crashes = "finished", 0
            self.finished[claim.id] = self.now + RESULT_TTL_S
        else:
            del self.jobs[claim.id]

    @precondition(lambda self: self.claims or self.queue)
    @rule(pick=PICK, delay_s=SECONDS)
    def retry(self, pick: int, delay_s: float) -> None:
        claim = self._some(pick)
        attempt = failed_attempt(claim.attempt, claim.started_at, self.now, "w", ValueError("no"))
        assert ending.retry(self.client, claim, attempt, delay_s) is Written.NOW
        self._ended(claim)
        job = self.jobs[claim.id]
        job.failures, job.crashes, job.status = job.failures + 1, 0, "scheduled"
        self.totals["retried"] += 1
        if delay_s:
            self.retried[claim.id] = self.now + delay_s
        else:
            self._push(claim.id)

    @precondition(lambda self: self.claims or self.queue)
    @rule(pick=PICK)
    def bury(self, pick: int) -> None:
        claim = self._some(pick)
        attempt = failed_attempt(claim.attempt, claim.started_at, self.now, "w", ValueError("no"))
        assert ending.bury(self.client, claim, attempt) is Written.NOW
        self._ended(claim)
        self.jobs[claim.id].failures += 1
        self._buried(claim.id)

    @precondition(lambda self: self.claims or self.queue)
    @rule(pick=PICK, delay_s=st.none() | SECONDS)
    def release(self, pick: int, delay_s: float | None) -> None:
        claim = self._some(pick)
        due_at = None if delay_s is None else self.now + delay_s
        assert ending.release(self.client, claim, self.now, due_at) is Written.NOW
        self._ended(claim)
        if due_at is None:
            self._push(claim.id, front=True)
            return
        job = self.jobs[claim.id]
        job.status, job.deferred = "scheduled", job.deferred + 1
        self.retried[claim.id] = due_at
        self.totals["deferred"] += 1

    @precondition(lambda self: self.stale)
    @rule(pick=PICK)
    def say_it_again(self, pick: int) -> None:
        """A reply was lost, or the lease: the invariants see that nothing was written."""
        claim = self.stale[pick % len(self.stale)]
        attempt = failed_attempt(claim.attempt, claim.started_at, self.now, "w", ValueError("no"))
        for written in (
            ending.finish(self.client, claim, self.now, b"3", RESULT_TTL_S),
            ending.retry(self.client, claim, attempt, 1.0),
            ending.bury(self.client, claim, attempt),
            ending.release(self.client, claim, self.now),
            ending.expire(self.client, claim, self.now),
        ):
            assert written is not Written.NOW

    # --- time passes -------------------------------------------------------------------------

    @rule(seconds=SECONDS)
    def reclaim(self, seconds: float) -> None:
        """Workers whose leases have run out are dead."""
        self.now += seconds
        self._reclaim()

    @precondition(lambda self: self.claims or self.queue)
    @rule(pick=PICK)
    def crash(self, pick: int) -> None:
        self._some(pick)
        self.now += LEASE_S + 1
        self._reclaim()

    def _reclaim(self) -> None:
        out = sorted((until, member) for member, until in self.wip.items() if until <= self.now)
        reclaimed, poison, ghosts = RECLAIM(self.client, [keys.wip(QUEUE)], [QUEUE, repr(self.now), 100, MAX_CRASHES])
        assert ghosts == 0
        told = [job_id.decode() for job_id in reclaimed]
        for _, member in out:
            claim = self.claims[member.partition(":")[0]]
            self._ended(claim)
            job = self.jobs[claim.id]
            if job.crashes + 1 < MAX_CRASHES:
                job.crashes += 1
                self._push(claim.id, front=True)
                self.totals["reclaimed"] += 1
                assert told.pop(0) == claim.id
            else:
                assert member.encode() in poison
                assert ending.bury_crashed(self.client, QUEUE, member, self.now) is Written.NOW
                self._buried(claim.id)
        assert told == []

    @rule(seconds=SECONDS)
    def promote(self, seconds: float) -> None:
        self.now += seconds
        answer = PROMOTE(self.client, [keys.SCHEDULED_JOBS, keys.QUEUES], [repr(self.now), 1_000, 0])
        waiting = [(at, place, job_id) for place, held in enumerate((self.delayed, self.retried)) for job_id, at in held.items()]
        due = [job_id for at, _place, job_id in sorted(waiting) if at <= self.now]
        for job_id in due:
            self.delayed.pop(job_id, None)
            self.retried.pop(job_id, None)
            self._push(job_id)
        assert (answer[0], answer[1], answer[-1]) == (len(due), 0, [])

    # --- operators ---------------------------------------------------------------------------

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        job_id = list(self.jobs)[pick % len(self.jobs)]
        job = self.jobs[job_id]
        if job.status not in ("queued", "scheduled", "canceled"):
            with pytest.raises(Conflict):
                job_store.cancel(self.client, job_id, self.now)
            return
        assert job_store.cancel(self.client, job_id, self.now).status == "canceled"
        if job.status != "canceled":
            self.queue = [other for other in self.queue if other != job_id]
            self.delayed.pop(job_id, None)
            self.retried.pop(job_id, None)
            self._dropped(job_id)

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def redrive(self, pick: int) -> None:
        job_id = sorted(self.dead or self.jobs)[pick % len(self.dead or self.jobs)]
        job = self.jobs[job_id]
        if job_id not in self.dead:
            with pytest.raises(NotFound):
                dead_letters.redrive(self.client, job_id)
        elif job.unique and self._held():
            with pytest.raises(Conflict):
                dead_letters.redrive(self.client, job_id)
        else:
            dead_letters.redrive(self.client, job_id)
            if job.unique:
                self.holder = job_id
            self.dead.remove(job_id)
            job.failures, job.redrives, job.expires_at = 0, job.redrives + 1, None
            self._push(job_id)

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def discard(self, pick: int) -> None:
        job_id = sorted(self.dead or self.jobs)[pick % len(self.dead or self.jobs)]
        if job_id not in self.dead:
            with pytest.raises(NotFound):
                dead_letters.discard(self.client, job_id)
            return
        dead_letters.discard(self.client, job_id)
        self.dead.remove(job_id)
        del self.jobs[job_id]

    # --- both say the same -------------------------------------------------------------------

    @invariant()
    def same(self) -> None:
        fields = ("status", "failures", "crashes", "redrives", "deferred")
        with self.client.pipeline(transaction=True) as pipeline:
            pipeline.lrange(keys.queue(QUEUE), 0, -1)
            for name in (keys.wip(QUEUE), keys.SCHEDULED_JOBS, keys.scheduled(QUEUE), keys.failed(QUEUE), keys.DEAD):
                pipeline.zrange(name, 0, -1, withscores=True)
            for name in (keys.finished(QUEUE), keys.canceled(QUEUE)):
                pipeline.zrange(name, 0, -1, withscores=True)
            pipeline.hgetall(keys.totals(QUEUE))
            pipeline.get(self.lock)
            pipeline.keys("rq:job:*")
            for job_id in self.jobs:
                pipeline.hmget(keys.job(job_id), *fields)
            queue, wip, delayed, retried, failed, dead, finished, cancelled, totals, lock, hashes, *jobs = pipeline.execute()
        assert _texts(queue) == self.queue
        assert _scores(wip) == self.wip
        assert (_scores(delayed), _scores(retried)) == (self.delayed, self.retried)
        assert set(_scores(failed)) == set(_scores(dead)) == self.dead
        assert (_scores(finished), _scores(cancelled)) == (self.finished, self.cancelled)
        assert {name.decode(): int(count) for name, count in totals.items()} == dict(self.totals)
        assert (lock.decode() if lock else None) == self.holder
        assert set(_texts(hashes)) == {keys.job(job_id) for job_id in self.jobs}
        for job, (status, *counts) in zip(self.jobs.values(), jobs, strict=True):
            assert status.decode() == job.status
            assert [int(count or 0) for count in counts] == [job.failures, job.crashes, job.redrives, job.deferred]


def _texts(items: list[bytes]) -> list[str]:
    return [item.decode() for item in items]


def _scores(items: list[tuple[bytes, float]]) -> dict[str, float]:
    return {member.decode(): score for member, score in items}


def test_the_queue_does_what_its_model_does(redis_client: redis.Redis, settings: Settings) -> None:
    machine: Any = type("Machine", (QueueMachine,), {"client": redis_client})
    run_state_machine_as_test(machine, settings=hypothesis.settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
