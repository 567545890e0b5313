"""The queue as plain Python says it must be: what is where, what is counted, and what follows from each move.

No Redis, no clock: time is an argument. `queue_machine.py` makes each move here and in Redis, and both must say the same.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from jobs.queue.ending import MAX_CRASHES
from jobs.queue.job import CANCELLED_TTL_S
from jobs.queue.priorities import base, served

QUEUES = ("default.high", "default", "default.low", "second")
UNFINISHED = ("queued", "started", "scheduled")
RATE_GAPS_S = {"limits.rated": 0.1}
MAX_CONCURRENT = {"limits.few": 2}
EARLY_S, FULL_S = 0.1, 0.05
"""How early a start at a rate may come, and when a task without a free slot is looked at again: claim.lua."""
FOLLOWS = {1: ((1,), (4, 5)), 4: ((4, 5), (3,)), 5: ((4, 5), (3,)), 3: ((3,), ())}
"""Of chain(1, group(4, 5), 3), node -> the nodes that must be done before the next ones start, and these."""


@dataclass
class Job:
    """What the model knows of a job."""

    queue: str
    status: str
    limited: str = ""
    unique: bool = False
    node: int = 0
    failures: int = 0
    crashes: int = 0
    redrives: int = 0
    deferred: int = 0
    came_back: bool = False
    begun: str = ""
    expires_at: float | None = None


@dataclass
class Place:
    """One queue and its registries; a list of ids, or id (or member, or task) -> instant."""

    ready: list[str] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)
    held: dict[str, list[str]] = field(default_factory=dict)
    held_until: dict[str, float] = field(default_factory=dict)
    wip: dict[str, float] = field(default_factory=dict)
    retried: dict[str, float] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    finished: dict[str, float] = field(default_factory=dict)
    cancelled: dict[str, float] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)


class Model:
    """All queues, and the moves."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.places = {queue: Place() for queue in QUEUES}
        self.delayed: dict[str, float] = {}
        self.died_at: dict[str, float] = {}
        self.canvases: dict[str, dict[int, str]] = {}
        self.paused: set[str] = set()
        self.holder: str | None = None
        self.rate_due_at = dict.fromkeys(RATE_GAPS_S, 0.0)
        self.slots: set[tuple[str, str]] = set()

    def of(self, job_id: str) -> Place:
        """Where the job is, wherever there."""
        return self.places[self.jobs[job_id].queue]

    def push(self, job_id: str, *, front: bool = False) -> None:
        """Puts it on its queue."""
        place = self.of(job_id)
        self.jobs[job_id].status = "queued"
        place.ready.insert(0 if front else len(place.ready), job_id)
        place.totals["enqueued"] += 1

    def holds(self) -> str | None:
        """The unfinished job that has the lock."""
        job = self.jobs.get(self.holder or "")
        return self.holder if job and job.status in UNFINISHED else None

    def _free(self, job_id: str) -> None:
        if self.holder == job_id:
            self.holder = None

    def nowhere(self) -> list[str]:
        """Queued, and in no list: a stock worker popped them and died."""
        waiting = {job_id for place in self.places.values() for held in (place.ready, *place.held.values()) for job_id in held}
        waiting.update(member.partition(":")[0] for place in self.places.values() for member in place.wip)
        return [job_id for job_id, job in self.jobs.items() if job.status == "queued" and job_id not in waiting]

    def add(self, job_id: str, job: Job, due_at: float | None = None) -> None:
        """A new job."""
        self.jobs[job_id] = job
        if job.unique:
            self.holder = job_id
        if due_at is None:
            self.push(job_id)
        else:
            job.status, self.delayed[job_id] = "scheduled", due_at

    def claim(self, queues: Iterable[str], executions: list[str], now: float, lease_s: float) -> tuple[list[str], float | None]:
        """The jobs that a claim takes, in its order, and how soon one that is held back may start."""
        names = [name for queue in queues if base(queue) not in self.paused for name in served(queue) if name in self.places]
        taken: list[str] = []
        for name in names:
            self._take_held(name, executions, taken, now, lease_s)
            place = self.places[name]
            while place.ready and len(taken) < len(executions):
                job_id = place.ready.pop(0)
                if not self._hold_back(job_id, now):
                    self._take(job_id, executions, taken, now, lease_s)
        waits = [at for name in names for at in self.places[name].held_until.values()]
        return taken, max(0.0, min(waits) - now) if waits and len(taken) < len(executions) else None

    def _take_held(self, name: str, executions: list[str], taken: list[str], now: float, lease_s: float) -> None:
        place = self.places[name]
        for _at, task in sorted((at, task) for task, at in place.held_until.items() if at <= now):
            if len(taken) == len(executions):
                return
            waiting = place.held[task]
            while waiting and len(taken) < len(executions) and self._may_start_at(task, now) <= now:
                self._take(waiting.pop(0), executions, taken, now, lease_s)
            del place.held_until[task]
            if waiting:
                place.held_until[task] = self._may_start_at(task, now)
            else:
                del place.held[task]

    def _may_start_at(self, task: str, now: float) -> float:
        running = sum(name == task and any(member in place.wip for place in self.places.values()) for name, member in self.slots)
        full = running >= MAX_CONCURRENT.get(task, running + 1)
        return max(now, now + FULL_S if full else 0.0, self.rate_due_at.get(task, 0.0) - EARLY_S)

    def _hold_back(self, job_id: str, now: float) -> bool:
        job, place = self.jobs[job_id], self.of(job_id)
        start_at = self._may_start_at(job.limited, now) if job.limited else now
        if start_at <= now and job.limited not in place.held:
            return False
        waiting = place.held.setdefault(job.limited, [])
        waiting.insert(0 if job.came_back or job.crashes else len(waiting), job_id)
        place.held_until.setdefault(job.limited, start_at)
        return True

    def _take(self, job_id: str, executions: list[str], taken: list[str], now: float, lease_s: float) -> None:
        job, member = self.jobs[job_id], f"{job_id}:{executions[len(taken)]}"
        taken.append(job_id)
        job.status, self.of(job_id).wip[member] = "started", now + lease_s
        if job.limited in MAX_CONCURRENT:
            self.slots.add((job.limited, member))
        if job.limited in RATE_GAPS_S:
            self.rate_due_at[job.limited] = max(now, self.rate_due_at[job.limited]) + RATE_GAPS_S[job.limited]

    def let_go(self, member: str) -> Job:
        """The fence of an execution is taken: it has ended, in whatever way."""
        job_id = member.partition(":")[0]
        del self.of(job_id).wip[member]
        self.jobs[job_id].came_back = True
        return self.jobs[job_id]

    def finish(self, job_id: str, now: float, ttl_s: float) -> None:
        """It has succeeded."""
        job, place = self.jobs[job_id], self.of(job_id)
        place.totals["finished"] += 1
        self._free(job_id)
        place.finished = {name: at for name, at in place.finished.items() if at > now}
        if ttl_s:
            job.status, job.crashes = "finished", 0
            place.finished[job_id] = now + ttl_s
        else:
            del self.jobs[job_id]
        if job.node:
            self._canvas_goes_on(job_id, job.node)

    def _canvas_goes_on(self, job_id: str, node: int) -> None:
        canvas_id = job_id.rpartition("-")[0]
        states, (needed, following) = self.canvases[canvas_id], FOLLOWS[node]
        states[node] = "d"
        if all(states.get(other) == "d" for other in needed):
            for number in following:
                self.start_member(canvas_id, number)

    def start_member(self, canvas_id: str, node: int) -> None:
        """A member of a canvas gets its job."""
        self.canvases[canvas_id][node] = "s"
        self.add(f"{canvas_id}-{node}", Job("default", "queued", node=node))

    def canvas_status(self, canvas_id: str) -> str:
        """As Redis has it."""
        states = self.canvases[canvas_id]
        return "finished" if states.get(3) == "d" else "failed" if "f" in states.values() else "running"

    def tell_canvas(self, job_id: str, state: str) -> None:
        """What became of the job of a member, if it is one."""
        if self.jobs[job_id].node:
            self.canvases[job_id.rpartition("-")[0]][self.jobs[job_id].node] = state

    def retry(self, job_id: str, now: float, delay_s: float) -> None:
        """An attempt has failed, and another one follows."""
        job = self.jobs[job_id]
        job.failures, job.crashes, job.status = job.failures + 1, 0, "scheduled"
        self.of(job_id).totals["retried"] += 1
        if delay_s:
            self.of(job_id).retried[job_id] = now + delay_s
        else:
            self.push(job_id)

    def release(self, job_id: str, due_at: float | None) -> None:
        """Handed back, or put off."""
        if due_at is None:
            self.push(job_id, front=True)
            return
        job = self.jobs[job_id]
        job.status, job.deferred = "scheduled", job.deferred + 1
        self.of(job_id).retried[job_id] = due_at
        self.of(job_id).totals["deferred"] += 1

    def bury(self, job_id: str, now: float) -> None:
        """It becomes a dead letter."""
        self.jobs[job_id].status, self.jobs[job_id].crashes = "failed", 0
        self._free(job_id)
        self.of(job_id).dead.add(job_id)
        self.of(job_id).totals["dead"] += 1
        self.died_at[job_id] = now
        self.tell_canvas(job_id, "f")

    def drop(self, job_id: str, now: float) -> None:
        """It ends without having run: cancelled, or expired."""
        place = self.of(job_id)
        self.jobs[job_id].status = "canceled"
        self._free(job_id)
        place.cancelled = {name: at for name, at in place.cancelled.items() if at > now}
        place.cancelled[job_id] = now + CANCELLED_TTL_S
        self.tell_canvas(job_id, "f")

    def forget(self, job_id: str) -> None:
        """It waits nowhere any more."""
        place = self.of(job_id)
        self.delayed.pop(job_id, None)
        place.retried.pop(job_id, None)
        place.ready = [other for other in place.ready if other != job_id]
        for task in [task for task, waiting in place.held.items() if job_id in waiting]:
            place.held[task].remove(job_id)
            if not place.held[task]:
                del place.held[task], place.held_until[task]

    def crash(self, member: str, now: float) -> str:
        """Its lease has run out. `reclaimed`, `dead`, or `ghost` for one whose job had ended, or waits."""
        job_id, _, execution = member.partition(":")
        job, place = self.jobs[job_id], self.of(job_id)
        del place.wip[member]
        if job.status not in ("started", "queued"):
            return "ghost"
        if job.crashes < MAX_CRASHES - 1 or "-" not in execution or job.begun == execution:
            job.crashes += 1
        if job.crashes < MAX_CRASHES:
            place.parked = [other for other in place.parked if other != job_id]
            self.push(job_id, front=True)
            place.totals["reclaimed"] += 1
            return "reclaimed"
        job.came_back = True
        self.bury(job_id, now)
        return "dead"

    def redrive(self, job_id: str) -> bool:
        """A dead letter goes back to its queue; False while another job has its lock."""
        job = self.jobs[job_id]
        if job.unique and self.holds():
            return False
        if job.unique:
            self.holder = job_id
        self._leaves(job_id)
        job.failures, job.redrives, job.expires_at, job.came_back = 0, job.redrives + 1, None, False
        self.push(job_id)
        self.tell_canvas(job_id, "s")
        return True

    def discard(self, job_id: str) -> None:
        """A dead letter is deleted."""
        self._leaves(job_id)
        del self.jobs[job_id]

    def _leaves(self, job_id: str) -> None:
        del self.died_at[job_id]
        self.of(job_id).dead.remove(job_id)

    def purge(self, queue: str) -> tuple[int, int]:
        """Deletes what is ready, but no member of a canvas; returns how many, and how many are kept."""
        place = self.places[queue]
        purged = [job_id for waiting in (place.ready, *place.held.values()) for job_id in waiting if not self.jobs[job_id].node]
        for job_id in purged:
            self.forget(job_id)
            del self.jobs[job_id]
        return len(purged), len(place.ready)
