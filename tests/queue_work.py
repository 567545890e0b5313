"""Jobs come and workers run them, in the queue's model (queue_model.py) and in Redis alike; queue_machine.py adds the rest."""

import functools
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import hypothesis
import limited
import pytest
import redis
import sample_tasks
from hands import LEASE_S
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from queue_model import QUEUES, Job, Model

from jobs import keys
from jobs.queue import calling, canvas_handle, claiming, ending, limits
from jobs.queue.attempts import Attempt, failed_attempt
from jobs.queue.canvas import chain, group
from jobs.queue.canvas_parts import signature
from jobs.queue.ending import Claim, Written
from jobs.queue.job import JobSpec
from jobs.queue.suspects import SUSPECT
from jobs.queue.task import Task

START = 1_763_764_205.0
RESULT_TTL_S = 500
TASKS = (sample_tasks.add, sample_tasks.single, limited.rated, limited.few)
SERVED = (("default",), ("second",), ("second", "default"), ("default", "second"), ("default.low",))
SECONDS = st.sampled_from([0.0, 0.05, 0.5, 3.0, LEASE_S + 1, 60.0])
PICK = st.integers(0, 10**6)
QUEUE = st.sampled_from(QUEUES)
TASK = st.sampled_from(TASKS)


def move(**drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """A rule whose moves are counted when they have been made."""

    def counted(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def made(self: "Work", **given: Any) -> None:
            function(self, **given)
            self.made[function.__name__] += 1

        return rule(**drawn)(made)  # type: ignore[call-overload]  # its overloads know no names that come later

    return counted


@functools.cache
def _options(task: Task, queue: str, expires_s: float | None) -> Any:
    return replace(task.defaults, queue=queue, expires_s=expires_s)


class Work(RuleBasedStateMachine):
    """What senders and workers do, ours and stock ones."""

    client: redis.Redis
    made: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        limits.publish(self.client, limited.TASKS)
        self.now = START
        self.numbers = itertools.count()
        self.model = Model()
        self.claims: dict[str, Claim] = {}
        self.stale: list[Claim] = []
        self.record: tuple[str, str, dict[str, float]] | None = None
        """A redrive of many that is open: its id, what it does, and the letters that it lists."""

    # --- jobs come ---------------------------------------------------------------------------

    def _spec(self, task: Task, queue: str, expires_s: float | None = None) -> JobSpec:
        args = (1, 2) if task is sample_tasks.add else ()
        return task.build(_options(task, queue, expires_s), args, {}, job_id=f"j{next(self.numbers)}", now=self.now)

    def _new(self, spec: JobSpec, task: Task, expires_at: float | None = None) -> Job:
        return Job(spec.queue, "queued", task.name if task.limited else "", bool(spec.lock), expires_at=expires_at)

    @move(task=TASK, queue=QUEUE, expires_s=st.none() | SECONDS.filter(bool), delay_s=st.none() | SECONDS, twice=st.booleans())
    def enqueue(self, task: Task, queue: str, expires_s: float | None, delay_s: float | None, twice: bool) -> None:
        due_at = None if delay_s is None else self.now + delay_s
        expires_s = None if delay_s is not None or task.limited else expires_s
        spec, holder = self._spec(task, queue, expires_s), self.model.holds() if task is sample_tasks.single else None
        assert calling.place(self.client, spec, now=self.now, due_at=due_at) == (holder or spec.id, not holder)
        if holder is None:
            expires_at = None if expires_s is None else self.now + expires_s
            self.model.add(spec.id, self._new(spec, task, expires_at), due_at)
            if twice:
                assert calling.place(self.client, spec, now=self.now + 1, due_at=due_at) == (spec.id, False)

    @move(tasks=st.lists(st.tuples(TASK, QUEUE), min_size=2, max_size=5))
    def enqueue_many(self, tasks: list[tuple[Task, str]]) -> None:
        specs = [self._spec(task, queue) for task, queue in tasks]
        answers = calling.place_many(self.client, specs, now=self.now)
        for (task, _queue), spec, answer in zip(tasks, specs, answers, strict=True):
            holder = self.model.holds() if spec.lock else None
            assert answer == (holder or spec.id, not holder)
            if holder is None:
                self.model.add(spec.id, self._new(spec, task))

    @move()
    def launch_canvas(self) -> None:
        member = signature(sample_tasks.collect)
        canvas_id = f"c{next(self.numbers)}"
        parts = chain(member, group(member, member), member)
        for _ in range(2):  # the reply of the first was lost
            canvas_handle.launch(self.client, parts, canvas_id=canvas_id, now=self.now)
        self.model.canvases[canvas_id] = {}
        self.model.start_member(canvas_id, 1)

    # --- jobs run ----------------------------------------------------------------------------

    @move(queues=st.sampled_from(SERVED), n=st.integers(1, 6))
    def claim(self, queues: tuple[str, ...], n: int) -> None:
        executions = [f"w-{next(self.numbers)}" for _ in range(n)]
        found = claiming.claim(self.client, queues, "w", LEASE_S, now=self.now, executions=executions)
        ids, wait_s = self.model.claim(queues, executions, self.now, LEASE_S)
        assert [(claim.id, claim.execution) for claim in found.jobs] == list(zip(ids, executions, strict=False))
        assert found.wait_s == (None if wait_s is None else pytest.approx(wait_s, abs=1e-6))
        for claim in found.jobs:
            self._claimed(claim, self.model.jobs[claim.id])

    def _claimed(self, claim: Claim, job: Job) -> None:
        assert (claim.queue, claim.attempt, claim.number(b"crashes", 0)) == (job.queue, job.failures + 1, job.crashes)
        assert claim.seconds(b"expires_at", 0.0) == (job.expires_at or 0.0)
        self.claims[claim.id] = claim
        if job.expires_at is not None and job.expires_at < self.now and not job.failures and not job.crashes:
            assert ending.expire(self.client, claim, self.now) is Written.NOW
            self._ended(claim)
            self.model.drop(claim.id, self.now)
            self.model.of(claim.id).totals["expired"] += 1

    def _ended(self, claim: Claim) -> None:
        self.model.let_go(claim.member)
        self._lost(claim.member)

    def _lost(self, member: str) -> None:
        claim = self.claims.pop(member.partition(":")[0], None)
        if claim:
            self.stale.append(claim)

    def _some(self, pick: int) -> Claim:
        """A job that runs; when none does, some are claimed first."""
        if not self.claims:
            self.claim(queues=("default", "second"), n=2)
        hypothesis.assume(self.claims)
        return list(self.claims.values())[pick % len(self.claims)]

    def _failed(self, claim: Claim) -> Attempt:
        return failed_attempt(claim.attempt, claim.started_at, self.now, "w", ValueError("no"))

    @move(pick=PICK, kept=st.booleans())
    def finish(self, pick: int, kept: bool) -> None:
        claim, ttl_s = self._some(pick), RESULT_TTL_S if kept else 0
        assert ending.finish(self.client, claim, self.now, b"3", ttl_s) is Written.NOW
        self._ended(claim)
        self.model.finish(claim.id, self.now, ttl_s)

    @move(pick=PICK, delay_s=SECONDS)
    def retry(self, pick: int, delay_s: float) -> None:
        claim = self._some(pick)
        assert ending.retry(self.client, claim, self._failed(claim), delay_s) is Written.NOW
        self._ended(claim)
        self.model.retry(claim.id, self.now, delay_s)

    @move(pick=PICK)
    def bury(self, pick: int) -> None:
        claim = self._some(pick)
        assert ending.bury(self.client, claim, self._failed(claim)) is Written.NOW
        self._ended(claim)
        self.model.jobs[claim.id].failures += 1
        self.model.bury(claim.id, self.now)

    @move(pick=PICK, delay_s=st.none() | SECONDS)
    def release(self, pick: int, delay_s: float | None) -> None:
        claim, due_at = self._some(pick), None if delay_s is None else self.now + delay_s
        assert ending.release(self.client, claim, self.now, due_at) is Written.NOW
        self._ended(claim)
        self.model.release(claim.id, due_at)

    @precondition(lambda self: self.claims or self.stale)
    @move(pick=PICK)
    def extend(self, pick: int) -> None:
        """A heartbeat renews what is held, and is told what was lost."""
        held = [*self.claims.values(), *self.stale[-2:]]
        claim = held[pick % len(held)]
        lost = ending.EXTEND(self.client, [keys.wip(claim.queue)], [repr(self.now + LEASE_S), claim.member])
        assert lost == ([] if claim.id in self.claims and self.claims[claim.id] == claim else [claim.member.encode()])
        if not lost:
            self.model.of(claim.id).wip[claim.member] = self.now + LEASE_S

    @precondition(lambda self: self.stale)
    @move(pick=PICK)
    def say_it_again(self, pick: int) -> None:
        """A reply was lost, or the lease: the comparison sees that nothing was written."""
        claim = self.stale[pick % len(self.stale)]
        for written in (
            ending.finish(self.client, claim, self.now, b"3", RESULT_TTL_S),
            ending.retry(self.client, claim, self._failed(claim), 1.0),
            ending.bury(self.client, claim, self._failed(claim)),
            ending.release(self.client, claim, self.now),
            ending.expire(self.client, claim, self.now),
        ):
            assert written is not Written.NOW
        assert not SUSPECT(self.client, [keys.job(claim.id), keys.wip(claim.queue)], [claim.id, claim.execution])

    @precondition(lambda self: any(place.ready for place in self.model.places.values()))
    @move(pick=PICK, came=st.sampled_from(["popped", "parked", "registered", "started"]))
    def stock_worker_dies(self, pick: int, came: str) -> None:
        """An unmodified `rq.Worker` takes a job, and comes so far with it."""
        queue, place = [(name, place) for name, place in self.model.places.items() if place.ready][pick % 2 - 1]
        job_id = place.ready.pop(0)
        assert self.client.lpop(keys.queue(queue)) == job_id.encode()
        if came in ("parked", "registered"):
            self.client.rpush(keys.intermediate(queue), job_id)
            place.parked.append(job_id)
        if came in ("registered", "started"):
            place.wip[f"{job_id}:s{next(self.numbers)}"] = self.now + LEASE_S
            self.client.zadd(
                keys.wip(queue), {member: until for member, until in place.wip.items() if member.startswith(f"{job_id}:")}
            )
        if came == "started":
            self.model.jobs[job_id].status = "started"
            self.client.hset(keys.job(job_id), "status", "started")
