"""Batches: items that pile up while a job waits are handed to a function together, each with an outcome of its own.

An item waits in Redis until its outcome is written: a result, kept like that of a job, or - when it failed - a job of its own,
with the attempts and the end of any job; having failed in a batch is no attempt. The function may be given an item again,
after a crash for example, but only one outcome is written. A batch job that crashed or ran into its time limit gives each item
of its batch a job of its own at the next try, so that the one that kills workers is quarantined alone.
"""

import asyncio
import base64
import inspect
import random
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import redis
import redis.asyncio

from jobs import connections, crash_points, keys, log, trace
from jobs.errors import CircuitOpen, InvalidField, JobInterrupted
from jobs.queue.attempts import message
from jobs.queue.backoff import Backoff, Dead, decide
from jobs.queue.job import CANCELLED_TTL_S, JSON, JobSpec
from jobs.queue.options import DEFAULT_TIME_LIMIT_S
from jobs.queue.outcome import encode_result
from jobs.queue.running import running_job
from jobs.queue.script import Argument, beside
from jobs.queue.task import DEFAULT_QUEUE, Policy, task
from jobs.settings import current

ADD = beside(__file__, "batch_add")
DONE = beside(__file__, "batch_done")
NEXT = beside(__file__, "batch_next")
ITEM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_NAME = 60
"""With an item's id it stays below what a job id may have."""
MAX_ITEMS = 1_000
"""One script writes the outcomes of a batch: some 20 ms of Redis' time at most."""
SUSPECT = RuntimeError("a batch with this item crashed or failed as a whole")
UNTIL_IT_WORKS = Backoff(max_attempts=1_000_000, base_s=0.5, cap_s=5.0)
"""For jobs that serve a buffer: they have no fate of their own, what waits in the buffer has."""
logger = log.get("batch")


@dataclass(frozen=True, slots=True)
class Buffer:
    """What waits for a batch job: the key of a list, the key that names the job that is due, and what makes one at a time."""

    items: str
    due: str
    spec: Callable[[float], JobSpec]


BUFFERS: dict[str, Buffer] = {}
"""Every buffer of this program, by the name of its batch job's task."""


def heal(client: redis.Redis, now: float) -> list[str]:
    """Gives each buffer whose job was lost another one; returns what it did, a line each."""
    done = []
    for buffer in BUFFERS.values():
        job = buffer.spec(now)
        lost = NEXT(client, [buffer.items, buffer.due], ["", job.id, job.queue, job.fields, repr(now), CANCELLED_TTL_S])
        if lost is not None:
            crash_points.reach("buffer.healed")
            done.append(f"{buffer.items}: job {lost.decode()} was lost, {job.id} takes its place")
    return done


@dataclass(frozen=True, slots=True)
class Item:
    """What the function is given. `value` is what was added, as JSON gives it back."""

    id: str
    value: Any


Handler = Callable[[list[Item]], Any]
"""Sync or `async def`. Answers with a result or an exception for each item, in a list as long or in a mapping by item id; no
answer for an item is success. What it raises is the outcome of every item."""


@dataclass(eq=False, kw_only=True)
class Batch:
    """Declares a batch; then decorates its function, which registers two tasks: `name` for what waits, `name.alone` for one item.

    A batch has at most `max_items`; with `linger_s` it is held for so long after its first item, unless it is full before.
    `retry` is the policy of an item alone. With a `result_ttl_s` of 0 an item is forgotten when it is done.
    """

    name: str
    queue: str = DEFAULT_QUEUE
    max_items: int = 100
    linger_s: float = 0.0
    retry: Policy | None = None
    time_limit_s: float = DEFAULT_TIME_LIMIT_S
    result_ttl_s: int | None = None

    def __post_init__(self) -> None:
        if not (1 <= self.max_items <= MAX_ITEMS and 0 <= self.linger_s < float("inf") and len(self.name) <= MAX_NAME):
            raise ValueError(f"{self}: 1 <= max_items <= {MAX_ITEMS}, linger_s >= 0 and a name of <= {MAX_NAME} are needed")

    def __call__(self, function: Handler) -> "Batch":
        def run() -> dict[str, int]:
            return self._run()

        def alone(item_id: str, item: Any) -> Any:
            [outcome] = self._answer([Item(item_id, item)])
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        for made in (run, alone):  # named for where a stock worker finds them: attributes of what the function's name stands for
            made.__module__, made.__qualname__ = function.__module__, f"{function.__qualname__}.{made.__name__}"
        self.function, self.__doc__ = function, function.__doc__
        common: dict[str, Any] = {"queue": self.queue, "time_limit_s": self.time_limit_s}
        self.run = task(name=self.name, retry=UNTIL_IT_WORKS, result_ttl_s=60, owned=True, **common)(run)
        self.alone = task(name=f"{self.name}.alone", retry=self.retry, result_ttl_s=self.result_ttl_s, **common)(alone)
        self._keys = [keys.batch(self.name), keys.batch_ids(self.name), keys.batch_due(self.name)]
        BUFFERS[self.name] = Buffer(keys.batch(self.name), keys.batch_due(self.name), self._spec)
        return self

    # --- adding -----------------------------------------------------------------------------

    def add(self, client: redis.Redis, item: Any, item_id: str | None = None) -> str:
        """Adds an item in one round trip; returns the id of the job under which its outcome will be found.

        An id that is known is not added again: as long as the item waits, its result is kept or a job of its own has it, be it
        a dead letter. Raises InvalidField for what is not JSON.
        """
        return self.add_many(client, [item], None if item_id is None else [item_id])[0]

    def add_many(self, client: redis.Redis, items: Sequence[Any], item_ids: Sequence[str] | None = None) -> list[str]:
        """`add` for several items in one round trip."""
        job_ids, args = self._adding(items, item_ids)
        ADD(client, self._keys, args)
        crash_points.reach("batch.added")
        return job_ids

    async def add_many_async(
        self, client: redis.asyncio.Redis, items: Sequence[Any], item_ids: Sequence[str] | None = None
    ) -> list[str]:
        """The async twin of `add_many`."""
        job_ids, args = self._adding(items, item_ids)
        await ADD.run(client, self._keys, args)
        return job_ids

    def job_id(self, item_id: str) -> str:
        """The id of an item's job; no items of two batches share one. Raises InvalidField."""
        if not ITEM_ID.fullmatch(item_id):
            raise InvalidField("item_id", "only letters, digits, _ and -, at most 64")
        return f"{self.name.replace('.', '-')}--{item_id}"

    def _adding(self, items: Sequence[Any], item_ids: Sequence[str] | None) -> tuple[list[str], list[Argument]]:
        ids = [uuid.uuid4().hex for _ in items] if item_ids is None else item_ids
        job_ids = [self.job_id(item_id) for item_id in ids]
        args = self._about_next(time.time())
        for number, (item_id, job_id, item) in enumerate(zip(ids, job_ids, items, strict=True)):
            try:
                self.alone.call(item_id, item)
            except InvalidField as error:
                raise InvalidField(f"items[{number}]", error.reason) from None
            args += (item_id, job_id, b"%s %s" % (item_id.encode(), JSON.encode(item).encode()))
        crash_points.reach("batch.asked")
        return job_ids, args

    def _spec(self, now: float) -> JobSpec:
        with trace.within(""):  # it belongs to the items of many callers
            return self.run.spec(job_id=f"{self.name.replace('.', '-')}-{uuid.uuid4().hex}", now=now)

    def _about_next(self, now: float) -> list[Argument]:
        job = self._spec(now)
        return [repr(now), self.max_items, self.linger_s, job.id, job.queue, job.fields]

    # --- running ----------------------------------------------------------------------------

    def _run(self) -> dict[str, int]:
        client, job = connections.process_client(), running_job()
        with client.pipeline(transaction=True) as pipeline:
            pipeline.get(keys.batch_due(self.name))
            pipeline.hmget(keys.job(job.id), "failures", "crashes")
            pipeline.lrange(keys.batch(self.name), 0, self.max_items - 1)
            due, troubles, entries = pipeline.execute()
        if due != job.id.encode():
            return {}
        parts = [entry.split(b" ", 1) for entry in entries]
        items = [Item(item_id.decode(), msgspec.json.decode(text)) for item_id, text in parts]
        crash_points.reach("batch.taken")
        suspect = any(number not in (None, b"0") for number in troubles)
        outcomes = [SUSPECT] * len(items) if suspect else self._outcomes(items)
        now = time.time()
        ttl_s = current().result_ttl_s if self.result_ttl_s is None else self.result_ttl_s
        args: list[Argument] = [job.id, *self._about_next(now), ttl_s, job.worker]
        for item, entry, outcome in zip(items, entries, outcomes, strict=True):
            args += (item.id, entry, *self._written(item, outcome, now, ttl_s))
        crash_points.reach("batch.answered")
        DONE(client, self._keys, args)
        crash_points.reach("batch.written")
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if errors:
            logger.warning("items go on alone", batch=self.name, n_items=len(errors), of=len(items), error=message(errors[0]))
        return {"done": len(items) - len(errors), "alone": len(errors)}

    def _outcomes(self, items: list[Item]) -> list[Any]:
        """Of each item its encoded result or its error. Raises what says nothing about any of them."""
        try:
            return [_encoded(outcome) for outcome in self._answer(items)]
        except (JobInterrupted, CircuitOpen):
            raise
        except BaseException as error:
            if connections.is_away(error):
                raise
            return [error] * len(items)

    def _answer(self, items: list[Item]) -> list[Any]:
        answer = self.function(list(items)) if items else None
        if inspect.iscoroutine(answer):
            answer = asyncio.run(answer)
        if answer is None:
            return [None] * len(items)
        if isinstance(answer, Mapping):
            foreign = set(answer) - {item.id for item in items}
            if foreign:
                raise ValueError(f"{self.name} answered for items that it was not given: {', '.join(sorted(map(repr, foreign)))}")
            return [answer.get(item.id) for item in items]
        if not isinstance(answer, list | tuple) or len(answer) != len(items):
            raise ValueError(f"{self.name} must answer None, a mapping by item id, or a list of {len(items)} outcomes")
        return list(answer)

    def _written(self, item: Item, outcome: Any, now: float, ttl_s: int) -> list[Argument]:
        """What DONE is told about the item's job: id, queue, fields, due_at, result."""
        failed = isinstance(outcome, BaseException)
        if not failed and not ttl_s:
            return [""] * 5
        job = self.alone.spec(item.id, item.value, job_id=self.job_id(item.id), now=now)
        if not failed:
            return [job.id, job.queue, job.fields, "", "" if outcome == b"null" else base64.b64encode(outcome)]
        following = decide(self.alone.retry, 1, outcome, random.random(), now=now)
        due_at = now if isinstance(following, Dead) else now + following.delay_s  # what is past help says so once more, alone
        return [job.id, job.queue, job.fields, repr(due_at), ""]


batch = Batch
"""As a decorator: `@batch(name="mail.send", max_items=50)` above a function that takes a list of items."""


def _encoded(outcome: Any) -> Any:
    if isinstance(outcome, BaseException):
        return outcome
    try:
        return encode_result(outcome)
    except TypeError as error:
        return TypeError(f"the result is not JSON: {error}")
