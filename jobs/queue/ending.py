"""How a claimed job ends: finished, retried, buried or handed back; each is one fenced write.

The state that a job belongs to follows in the same MULTI, through its task's hooks; a job that finished and belongs to none
is plain, and many of them share one script. A worker that has lost its lease writes nothing; a repeated call (the reply was
lost) changes nothing.
"""

import base64
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import msgspec
import redis

from jobs import crash_points, keys
from jobs.errors import UnknownTask
from jobs.queue import attempts, canvas_effects
from jobs.queue.attempts import Attempt
from jobs.queue.hooks import Effect, Ending, add_effects
from jobs.queue.job import CANCELLED_TTL_S, Call, rq_time
from jobs.queue.outcome import Outcome
from jobs.queue.priorities import served
from jobs.queue.script import Argument, Invocation, beside, exchange
from jobs.queue.task import Task, by_path

FINISH = beside(__file__, "finish")
RETRY = beside(__file__, "retry")
BURY = beside(__file__, "bury")
RELEASE = beside(__file__, "release")
EXPIRE = beside(__file__, "expire")
EXTEND = beside(__file__, "extend")
MAX_CRASHES = 3


class Written(IntEnum):
    """What an ending script answered."""

    LEASE_LOST = 0
    NOW = 1
    BEFORE = 2


class Claim(msgspec.Struct, frozen=True):
    """A job in a worker's hands, with the execution that is its fence."""

    id: str
    execution: str
    queue: str
    worker: str
    hash: Mapping[bytes, bytes]
    started_at: float

    @property
    def member(self) -> str:
        """The job's entry in rq:wip."""
        return f"{self.id}:{self.execution}"

    @property
    def trace(self) -> str:
        """The trace that the job belongs to; empty without one."""
        return self.hash.get(b"trace", b"").decode(errors="replace")

    @property
    def failures(self) -> int:
        """Attempts that failed since the job was enqueued or redriven."""
        return self.number(b"failures", 0)

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1; crashes do not count."""
        return self.failures + 1

    def number(self, field: bytes, default: int) -> int:
        """A whole number in the job's hash; the default for what is none: no hash may end its worker."""
        try:
            return int(self.hash.get(field) or default)
        except ValueError:
            return default

    def text(self, field: bytes) -> str:
        """A field of the job's hash, empty when there is none."""
        return self.hash.get(field, b"").decode(errors="replace")

    def seconds(self, field: bytes, default: float) -> float:
        """A duration or an instant in the job's hash; the default when there is none, or none that can be read."""
        try:
            return float(self.hash.get(field) or default)
        except ValueError:
            return default

    def call(self) -> Call:
        """What to run. Raises ValueError when the data is not a JSON call."""
        data = self.hash.get(b"data", b"")
        return Call.decode(data)


def is_plain(claim: Claim, outcome: Outcome) -> bool:
    """Whether `finishing` can write it: the job has finished, and nothing but the job follows."""
    return outcome.what == "finished" and b"canvas" not in claim.hash


def finishing(batch: Sequence[tuple[Claim, Outcome]]) -> Invocation:
    """What acknowledges up to 1,000 plain jobs of one queue and one worker; answers a `Written` for each, in their order."""
    first, last = batch[0][0], batch[-1][1]
    places = [keys.wip(first.queue), keys.finished(first.queue), keys.worker(first.worker)]
    args: list[Argument] = [repr(last.ended_at), first.queue, first.worker]
    for claim, outcome in batch:
        lock_at = 0
        if b"unique" in claim.hash:
            places.append(claim.text(b"unique"))
            lock_at = len(places)
        crashes = "crashes" if b"crashes" in claim.hash else ""
        kept = "" if outcome.result == b"null" else base64.b64encode(outcome.result)  # RQ's way to keep a result
        worked_s = repr(outcome.ended_at - claim.started_at)
        args += (claim.id, claim.execution, rq_time(outcome.ended_at), worked_s, outcome.result_ttl_s, kept, crashes, lock_at)
    return FINISH, places, args


def write(client: redis.Redis, claim: Claim, outcome: Outcome) -> Written:
    """Writes the end of one job, whatever it is, in one round trip."""
    now, failed = outcome.ended_at, outcome.failed
    match outcome.what:
        case "retry" if failed is not None:
            return retry(client, claim, failed, outcome.delay_s)
        case "dead" if failed is not None:
            return bury(client, claim, failed)
        case "finished":
            return finish(client, claim, now, outcome.result, outcome.result_ttl_s)
        case "deferred":
            return release(client, claim, now, now + outcome.delay_s)
        case "handed back":
            return release(client, claim, now)
        case "expired":
            return expire(client, claim, now)
        case "crashed":
            return end_lease(client, claim, now)
    raise ValueError(outcome)


def finish(client: redis.Redis, claim: Claim, now: float, result: bytes, result_ttl_s: int) -> Written:
    """Acknowledges success; `result` is JSON."""
    invocation = finishing([(claim, Outcome("finished", "", now, result, result_ttl_s))])
    effects = canvas_effects.finished(claim.text(b"canvas"), result.decode(), now) if b"canvas" in claim.hash else []
    return Written(_written(client, claim, effects, invocation)[0])


def retry(client: redis.Redis, claim: Claim, failed: Attempt, delay_s: float) -> Written:
    """Ends the attempt; the next one is due `delay_s` after its end."""
    now = failed.ended_at
    history = attempts.append(claim.hash.get(b"attempts", b""), failed)
    places = [keys.job(claim.id), keys.wip(claim.queue), keys.scheduled(claim.queue), keys.worker(claim.worker)]
    due_at = repr(now + delay_s)
    args: list[Argument] = [claim.id, claim.execution, claim.queue, repr(now), due_at, claim.failures + 1, history, repr(delay_s)]
    with client.pipeline(transaction=True) as pipeline:
        add_effects(pipeline, _hooked(claim, "retried", failed), keys.wip(claim.queue), claim.member)
        RETRY.in_multi(pipeline, places, args)
        return Written(pipeline.execute()[-1])


def note_retry(client: redis.Redis, claim: Claim, failed: Attempt) -> None:
    """Records a failed attempt whose retry a stock worker performs itself."""
    history = attempts.append(claim.hash.get(b"attempts", b""), failed)
    with client.pipeline(transaction=True) as pipeline:
        add_effects(pipeline, _hooked(claim, "retried", failed), keys.wip(claim.queue), "")
        pipeline.hset(keys.job(claim.id), mapping={"failures": claim.failures + 1, "attempts": history})
        pipeline.hdel(keys.job(claim.id), "crashes")
        pipeline.execute()


def bury(client: redis.Redis, claim: Claim, failed: Attempt, *, fenced: bool = True, burned: int = 1) -> Written:
    """Makes the job a dead letter. `burned` is 0 for a crash, which is no attempt; a stock worker holds no fence."""
    task_name = claim.hash.get(b"task", b"").decode(errors="replace") or claim.id
    group = attempts.fingerprint(task_name, failed.error_type, failed.error)
    history = attempts.append(claim.hash.get(b"attempts", b""), failed)
    trace = failed.traceback or failed.error
    job, worker = keys.job(claim.id), keys.worker(claim.worker)
    places = [job, keys.wip(claim.queue), keys.failed(claim.queue), keys.results(claim.id), worker]
    args: list[Argument] = [
        claim.id,
        claim.execution if fenced else "",
        claim.queue,
        repr(failed.ended_at),
        claim.failures + burned,
    ]
    args += [history, trace, attempts.rq_exc_string(trace), group, failed.error_type, failed.error, claim.worker]
    with client.pipeline(transaction=True) as pipeline:
        effects = _hooked(claim, "died", failed)
        effects += canvas_effects.ended(claim.text(b"canvas"), "dead", f"{failed.error_type}: {failed.error}", failed.ended_at)
        add_effects(pipeline, effects, keys.wip(claim.queue), claim.member if fenced else "")
        BURY.in_multi(pipeline, places, args)
        return Written(pipeline.execute()[-1])


def release(client: redis.Redis, claim: Claim, now: float, due_at: float | None = None) -> Written:
    """Hands the job back unfinished, at once or to be run at `due_at`; no attempt is burned."""
    script, places, args = releasing(claim, now, due_at)
    return Written(script(client, places, args))


def release_all(client: redis.Redis, claims: Sequence[Claim], now: float) -> list[Written]:
    """`release` for many, in one round trip: they come to the front of their queues in the order in which they are given."""
    answers = exchange(client, [releasing(claim, now) for claim in reversed(claims)])
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return [Written(answer) for answer in reversed(answers)]


def hand_back_lost(
    client: redis.Redis, queues: Sequence[str], prefix: str, held: Collection[str], now: float, *, below: float = math.inf
) -> int:
    """Hands back what a claim took whose reply was lost; returns how many jobs that were.

    These are the members of rq:wip that are not in `held` and whose execution begins with `prefix`, which is the worker's own
    and as long as everybody else's; what follows it counts its executions, in hexadecimal, and the claim asked for those
    `below`. One that is still on its way to Redis is not seen: its leases run out.
    """
    names = list(dict.fromkeys(name for queue in queues for name in served(queue)))
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.zrange(keys.wip(name), 0, -1)
        found = pipeline.execute()
    lost: list[Claim] = []
    for name, members in zip(names, found, strict=True):
        for member in map(bytes.decode, members):
            job_id, _, execution = member.partition(":")
            if execution.startswith(prefix) and member not in held and int(execution[len(prefix) :], 16) < below:
                lost.append(Claim(job_id, execution, name, "", {}, now))
    lost.sort(key=lambda claim: (len(claim.execution), claim.execution))
    crash_points.reach("claim.found")
    return release_all(client, lost, now).count(Written.NOW) if lost else 0


def end_lease(client: redis.Redis, claim: Claim, now: float) -> Written:
    """The process that ran the job has died: its lease ends `now`, and whoever reclaims the job counts the crash."""
    lost = EXTEND(client, [keys.wip(claim.queue)], [repr(now), claim.member])
    return Written.LEASE_LOST if lost else Written.NOW


def expire(client: redis.Redis, claim: Claim, now: float) -> Written:
    """Ends a job that came too late to be started."""
    reason = f"expired: not started by {datetime.fromtimestamp(claim.seconds(b'expires_at', 0.0), UTC):%Y-%m-%dT%H:%M:%SZ}"
    args: list[Argument] = [claim.id, claim.execution, claim.queue, repr(now), CANCELLED_TTL_S, reason]
    effects = canvas_effects.ended(claim.text(b"canvas"), "expired", reason, now)
    return Written(_written(client, claim, effects, (EXPIRE, [keys.job(claim.id), keys.wip(claim.queue)], args)))


def bury_crashed(client: redis.Redis, queue: str, member: str, now: float) -> Written:
    """Quarantines a job whose workers died under it too often; `member` is its entry in rq:wip."""
    job_id, _, execution = member.partition(":")
    found: Mapping[bytes, bytes] = client.hgetall(keys.job(job_id))
    worker = found.get(b"worker_name", b"").decode(errors="replace")
    claim = Claim(job_id, execution, queue, worker, found, now)
    crash_points.reach("quarantine.read")
    return bury(client, claim, quarantined(claim, now), burned=0)


def quarantined(claim: Claim, now: float) -> Attempt:
    """What a job's history says when its workers died under it too often."""
    reason = f"its worker died {MAX_CRASHES} times in a row while it ran; no attempt was burned"
    return Attempt(claim.attempt, now, now, claim.worker, "Quarantined", reason)


def task_of(claim: Claim) -> Task:
    """The task on the allow-list that the job calls. Raises UnknownTask, or ValueError for data that is no call."""
    return by_path(claim.call().path)


def _hooked(claim: Claim, what: str, failed: Attempt) -> list[Effect]:
    try:
        task = task_of(claim)
    except (UnknownTask, ValueError):
        return []
    args = task.arguments(claim.call())
    if task.hooks is None or args is None:
        return []
    ending = Ending(claim.id, args, failed.attempt, failed.worker, failed.error, failed.ended_at)
    hook = task.hooks.died if what == "died" else task.hooks.retried
    return hook(ending)


def releasing(claim: Claim, now: float, due_at: float | None = None) -> Invocation:
    """What hands the job back; answers a `Written`."""
    places = [keys.job(claim.id), keys.wip(claim.queue), keys.scheduled(claim.queue)]
    return RELEASE, places, [claim.id, claim.execution, claim.queue, repr(now), "" if due_at is None else repr(due_at)]


def _written(client: redis.Redis, claim: Claim, effects: Sequence[Effect], invocation: Invocation) -> Any:
    """One round trip: the script alone, or in a MULTI behind what follows from it. `Any`: the script's answer."""
    script, places, args = invocation
    if not effects:
        return script(client, places, args)
    with client.pipeline(transaction=True) as pipeline:
        add_effects(pipeline, effects, keys.wip(claim.queue), claim.member)
        script.in_multi(pipeline, places, args)
        return pipeline.execute()[-1]
