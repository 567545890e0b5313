"""The moves of the queue's model (queue_model.py), made in Redis too: whatever is done in whatever order, both say the same.

Time is an argument and nothing sleeps. After every move each list, each registry, each counter and each job is compared
(queue_compared.py), so no job is ever in two places or in none.
"""

from typing import Any

import pytest
from hands import LEASE_S, PROMOTE, RECLAIM
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition
from queue_compared import check_keys, compare
from queue_model import QUEUES
from queue_work import PICK, QUEUE, SECONDS, Work, move

from jobs import keys
from jobs.errors import Conflict, NotFound
from jobs.queue import dead_letters, ending, job_store, overview, redrives
from jobs.queue.ending import MAX_CRASHES, Written
from jobs.queue.suspects import SUSPECT
from scheduler.redrives import Redrives
from scheduler.sweep import requeue


class QueueMachine(Work):
    """Time passes, operators act, and both are compared."""

    # --- time passes -------------------------------------------------------------------------

    @move(seconds=SECONDS)
    def reclaim(self, seconds: float) -> None:
        """Workers whose leases have run out are dead."""
        self.now += seconds
        for queue in QUEUES:
            self._reclaim(queue)

    @move(pick=PICK, times=st.integers(1, MAX_CRASHES))
    def crash(self, pick: int, times: int) -> None:
        """A worker dies under a job that it had begun, and so do those that get it next."""
        job_id = self._some(pick).id
        for _ in range(times):
            claim = self.claims.get(job_id)
            if claim is None:
                break
            if SUSPECT(self.client, [keys.job(job_id), keys.wip(claim.queue)], [job_id, claim.execution]):
                self.model.jobs[job_id].begun = claim.execution
            self.reclaim(seconds=LEASE_S + 1)
            self.claim(queues=("default", "second"), n=3)

    def _reclaim(self, queue: str) -> None:
        place = self.model.places[queue]
        out = sorted((until, member) for member, until in place.wip.items() if until <= self.now)
        args: list[str | int] = [queue, repr(self.now), 100, MAX_CRASHES]
        reclaimed, poison, ghosts = RECLAIM(self.client, [keys.wip(queue)], args)
        for member in map(bytes.decode, poison):
            assert ending.bury_crashed(self.client, queue, member, self.now) is Written.NOW
        became: dict[str, list[str]] = {"reclaimed": [], "dead": [], "ghost": []}
        for _until, member in out:
            became[self.model.crash(member, self.now)].append(member)
            self._lost(member)
        assert [job_id.decode() for job_id in reclaimed] == [member.partition(":")[0] for member in became["reclaimed"]]
        assert (list(map(bytes.decode, poison)), ghosts) == (became["dead"], len(became["ghost"]))

    @move(seconds=SECONDS)
    def promote(self, seconds: float) -> None:
        self.now += seconds
        answer = PROMOTE(self.client, [keys.SCHEDULED_JOBS, keys.QUEUES], [repr(self.now), 1_000, 0])
        sets = [self.model.delayed, *(place.retried for place in self.model.places.values())]
        waiting = [(at, held is not sets[0], job_id) for held in sets for job_id, at in held.items()]
        due = [job_id for at, _retried, job_id in sorted(waiting) if at <= self.now]
        for job_id in due:
            self.model.forget(job_id)
            self.model.push(job_id)
        assert (answer[0], answer[1], answer[-1]) == (len(due), 0, [])

    @move()
    def sweep(self) -> None:
        """What a stock worker lost is found by two looks, the second of which requeues it."""
        lost = self.model.nowhere()
        parked = [(job_id, place) for place in self.model.places.values() for job_id in place.parked]
        for job_id in lost:
            queue = self.model.jobs[job_id].queue
            seen = requeue(self.client, queue, job_id, self.now)
            assert seen and requeue(self.client, queue, job_id, self.now, seen) == seen
            self.model.push(job_id, front=True)
        for job_id, place in parked:
            assert requeue(self.client, self.model.jobs[job_id].queue, job_id, self.now) is None
            if job_id in lost or self.model.jobs[job_id].status != "queued":
                place.parked.remove(job_id)

    # --- operators ---------------------------------------------------------------------------

    @precondition(lambda self: self.model.jobs)
    @move(pick=PICK)
    def cancel(self, pick: int) -> None:
        job_id = list(self.model.jobs)[pick % len(self.model.jobs)]
        status = self.model.jobs[job_id].status
        if status not in ("queued", "scheduled", "canceled"):
            with pytest.raises(Conflict):
                job_store.cancel(self.client, job_id, self.now)
            return
        assert job_store.cancel(self.client, job_id, self.now).status == "canceled"
        if status != "canceled":
            self.model.forget(job_id)
            self.model.drop(job_id, self.now)

    @move(queue=st.sampled_from(["default", "second"]), on=st.booleans())
    def pause_or_resume(self, queue: str, on: bool) -> None:
        (overview.pause if on else overview.resume)(self.client, queue)
        (self.model.paused.add if on else self.model.paused.discard)(queue)

    @move(queue=QUEUE)
    def purge(self, queue: str) -> None:
        assert overview.purge(self.client, queue) == self.model.purge(queue)

    def _letter(self, pick: int) -> str:
        """A dead letter, or while there is none any job."""
        names = sorted(self.model.died_at or self.model.jobs)
        return names[pick % len(names)]

    @precondition(lambda self: self.model.jobs)
    @move(pick=PICK)
    def redrive(self, pick: int) -> None:
        job_id = self._letter(pick)
        if job_id not in self.model.died_at:
            with pytest.raises(NotFound):
                dead_letters.redrive(self.client, job_id)
        elif self.model.redrive(job_id):
            dead_letters.redrive(self.client, job_id)
        else:
            with pytest.raises(Conflict):
                dead_letters.redrive(self.client, job_id)

    @precondition(lambda self: self.model.jobs)
    @move(pick=PICK)
    def discard(self, pick: int) -> None:
        job_id = self._letter(pick)
        if job_id not in self.model.died_at:
            with pytest.raises(NotFound):
                dead_letters.discard(self.client, job_id)
            return
        dead_letters.discard(self.client, job_id)
        self.model.discard(job_id)

    @precondition(lambda self: self.record is None and self.model.died_at)
    @move(action=st.sampled_from(["redrive", "redrive", "discard"]))
    def ask_for_all(self, action: Any) -> None:
        """Lists the letters that are there now; what happens to them until it is worked off is another matter."""
        record = redrives.request(self.client, action, by="model")
        self.record = (record.id, action, dict(self.model.died_at))

    @precondition(lambda self: self.record or self.model.died_at)
    @move()
    def work_off(self) -> None:
        """The scheduler moves the letters of the record that is open."""
        if self.record is None:
            self.ask_for_all(action="redrive")
        assert self.record
        (record_id, action, letters), self.record = self.record, None
        done = refused = 0
        for _died_at, job_id in sorted((at, job_id) for job_id, at in letters.items()):
            if self.model.died_at.get(job_id) != letters[job_id]:
                continue
            if action == "discard":
                self.model.discard(job_id)
            elif not self.model.redrive(job_id):
                refused += 1
                continue
            done += 1
        Redrives(self.client).tick(self.now)
        Redrives(self.client).tick(self.now)
        record = redrives.get(self.client, record_id)
        assert (record.state, record.done, record.refused) == ("done", done, refused)

    # --- both say the same -------------------------------------------------------------------

    @invariant()
    def same(self) -> None:
        compare(self.client, self.model)

    def teardown(self) -> None:
        check_keys(self.client)
