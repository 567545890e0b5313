"""Circuit breakers: a downstream that fails too often is left alone for a while, by all workers at once.

    CARRIER = Breaker("carrier", trips_on=lambda error: isinstance(error, CarrierError))

    with CARRIER.guard(client) as call:  # raises CircuitOpen: the worker defers the job, which burns no attempt
        book(parcel)

What the block does is counted, for every process that asks under this name: an error that `trips_on` names and a time
limit are failures of the downstream; no error, or Permanent (its answer is no), is a success; any other error, a stop,
a drain and `call.not_made()` say nothing about it and give the leave back.

Closed: calls go through. Once `failure_rate` of at least `min_calls` calls in the last `window_s` have failed: open for
`open_s`, doubled after each failed probe up to `max_open_s`. Then half-open: `probes` calls at a time, each leased for
`probe_lease_s`, so that one whose process died gives its place up. When all of them succeed the circuit closes with an
empty window; one that fails opens it again. A report that is late, sent twice or lost does no harm.
"""

import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import msgspec
import redis

from jobs import crash_points, keys, log
from jobs.errors import CircuitOpen, NotFound, Permanent, SoftTimeLimitExceeded, TimeLimitExceeded
from jobs.queue.script import beside
from jobs.setting_values import QUEUE_NAME

BREAKER = beside(__file__, "breaker")
BUCKETS = 10
"""The window moves on by a tenth of itself."""
MAX_S = 3_600.0
"""The longest window, lease and time open: far less than the life of the hash."""
logger = log.get("breaker")


class Circuit(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Outcome(StrEnum):
    """What a call said about the downstream."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GIVEN_BACK = "given_back"


class BreakerState(msgspec.Struct, frozen=True):
    """A breaker as operators see it. `failures` and `calls` are those in the window, instants Unix seconds.

    `opened` and the totals count from the first use after a day without any.
    """

    name: str
    state: Circuit
    failures: int
    calls: int
    opened_at: float | None
    retry_at: float | None
    opened: int
    calls_total: int
    failures_total: int
    refused_total: int


class GuardedCall:
    """What the guarded block may say about its call."""

    made = True

    def not_made(self) -> None:
        """There was nothing to call: the block says nothing about the downstream."""
        self.made = False


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker of the downstream `name`; the module's docstring says what the rest means."""

    name: str
    trips_on: Callable[[BaseException], bool]
    failure_rate: float = 0.5
    min_calls: int = 20
    window_s: float = 30.0
    open_s: float = 10.0
    max_open_s: float = 300.0
    probes: int = 1
    probe_lease_s: float = 30.0

    def __post_init__(self) -> None:
        durations = (self.window_s, self.open_s, self.max_open_s, self.probe_lease_s)
        if not QUEUE_NAME.fullmatch(self.name):
            raise ValueError(f"breaker {self.name!r}: letters, digits, '_', '-' and '.' are needed, at most 64")
        if not 0 < self.failure_rate <= 1 or self.min_calls < 1 or self.probes < 1:  # written so that NaN is refused too
            raise ValueError(f"{self}: 0 < failure_rate <= 1, min_calls >= 1 and probes >= 1 are needed")
        if not all(0 < duration <= MAX_S for duration in durations) or self.open_s > self.max_open_s:
            raise ValueError(f"{self}: durations above 0 and up to {MAX_S:g} s are needed, and open_s <= max_open_s")

    @contextmanager
    def guard(self, client: redis.Redis, *, clock: Callable[[], float] = time.time) -> Iterator[GuardedCall]:
        """Asks before the block and reports after it. Raises CircuitOpen; the block is then not entered."""
        call_id = uuid.uuid4().hex
        self.ask(client, call_id, clock())
        crash_points.reach("breaker.granted")
        call, outcome = GuardedCall(), Outcome.GIVEN_BACK
        try:
            yield call
            outcome = Outcome.SUCCEEDED if call.made else Outcome.GIVEN_BACK
        except BaseException as error:
            outcome = self._outcome(error)
            raise
        finally:
            self._report_if_possible(client, call_id, outcome, clock())

    def ask(self, client: redis.Redis, call_id: str, now: float) -> None:
        """Leave for one call. Raises CircuitOpen when there is none."""
        retry_at = BREAKER(client, *self._script_call("ask", call_id, now))
        if retry_at:
            raise CircuitOpen(self.name, float(retry_at))

    def report(self, client: redis.Redis, call_id: str, outcome: Outcome, now: float) -> bool:
        """Says how the call ended; false when there is no leave of that id (any more), and nothing was counted."""
        return bool(BREAKER(client, *self._script_call(outcome.value, call_id, now)))

    def _outcome(self, error: BaseException) -> Outcome:
        if isinstance(error, TimeLimitExceeded | SoftTimeLimitExceeded) or self.trips_on(error):
            return Outcome.FAILED
        return Outcome.SUCCEEDED if isinstance(error, Permanent) else Outcome.GIVEN_BACK

    def _report_if_possible(self, client: redis.Redis, call_id: str, outcome: Outcome, now: float) -> None:
        try:
            self.report(client, call_id, outcome, now)
        except redis.exceptions.RedisError as error:
            # The call has had its effect, and its result must not get lost for a figure: its lease will run out.
            logger.warning("outcome not reported", breaker=self.name, outcome=outcome.value, error=str(error))

    def _script_call(self, what: str, call_id: str, now: float) -> tuple[list[str], list[str | int | float]]:
        return [keys.breaker(self.name), keys.BREAKERS], [
            what,
            self.name,
            repr(now),
            call_id,
            self.failure_rate,
            self.min_calls,
            self.window_s / BUCKETS,
            BUCKETS,
            self.open_s,
            self.max_open_s,
            self.probes,
            self.probe_lease_s,
        ]


def reset(client: redis.Redis, name: str, now: float) -> None:
    """Closes the circuit and empties its window, whatever the downstream does. Raises NotFound."""
    if not BREAKER(client, [keys.breaker(name), keys.BREAKERS], ["reset", name, repr(now)]):
        raise NotFound("breaker", name)


def states(client: redis.Redis, now: float) -> list[BreakerState]:
    """All breakers that were asked within a day, by name; the others are forgotten: names may be those of clients' hosts."""
    names = sorted(name.decode() for name in client.smembers(keys.BREAKERS))
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hgetall(keys.breaker(name))
        found = dict(zip(names, pipeline.execute(), strict=True))
    gone = [name for name, fields in found.items() if not fields]
    if gone:
        client.srem(keys.BREAKERS, *gone)  # one that is asked right now comes back with its next bucket
    return [_state(name, fields, now) for name, fields in found.items() if fields]


def _state(name: str, fields: Mapping[bytes, bytes], now: float) -> BreakerState:
    newest = math.floor(now / float(fields.get(b"bucket_s", 1)))
    window = range(newest - BUCKETS + 1, newest + 1)
    opened_at, retry_at = (float(fields[field]) if field in fields else None for field in (b"opened_at", b"retry_at"))
    if retry_at is None:
        circuit = Circuit.CLOSED
    else:
        circuit = Circuit.OPEN if now < retry_at else Circuit.HALF_OPEN

    def count(*names: str) -> int:
        return sum(int(fields.get(field.encode(), 0)) for field in names)

    return BreakerState(
        name=name,
        state=circuit,
        failures=count(*(f"f{bucket}" for bucket in window)),
        calls=count(*(f"c{bucket}" for bucket in window)),
        opened_at=opened_at,
        retry_at=retry_at,
        opened=count("opened"),
        calls_total=count("calls"),
        failures_total=count("failures"),
        refused_total=count("refused"),
    )
