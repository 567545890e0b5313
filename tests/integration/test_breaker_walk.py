"""Random walks of a circuit breaker: the script on a real server does at every step what a model in plain Python does.

Calls are asked for, told, told twice, told too late or never, by processes that ask twice because a reply was lost.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jobs import keys
from jobs.errors import CircuitOpen
from jobs.queue import breaker
from jobs.queue.breaker import BUCKETS, Breaker, BreakerState, Circuit, Outcome

START = 1_763_764_200.0
BREAKER = Breaker(
    "walk",
    trips_on=lambda _error: True,
    failure_rate=0.5,
    min_calls=4,
    window_s=10.0,
    open_s=5.0,
    max_open_s=15.0,
    probes=2,
    probe_lease_s=8.0,
)
OTHER_FIELDS = 10
"""Fields of the hash that are neither buckets nor leases."""
CALL_S = 3_600.0


@dataclass
class Model:
    """What the script must do. `leases`: call -> its end; `window`: bucket -> (calls, failures)."""

    leases: dict[str, float] = field(default_factory=dict)
    window: dict[int, tuple[int, int]] = field(default_factory=dict)
    opened_at: float | None = None
    retry_at: float | None = None
    streak: int = 0
    passed: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def ask(self, call: str, now: float) -> float | None:
        """None to go ahead, or when to ask again."""
        if self.retry_at is None:
            self.leases[call] = now + CALL_S
            return None
        if now >= self.retry_at:
            others = [ends_at for name, ends_at in self.leases.items() if name != call and ends_at > now]
            if self.passed + len(others) < BREAKER.probes:
                self.leases[call] = now + BREAKER.probe_lease_s
                return None
        else:
            others = []
        self.counts["refused"] += 1
        return self.retry_at if now < self.retry_at else min([now + BREAKER.open_s, *others])

    def report(self, call: str, outcome: Outcome, now: float) -> bool:
        """Whether the report was taken."""
        if self.leases.pop(call, 0.0) <= now:
            return False
        if outcome is Outcome.GIVEN_BACK:
            return True
        failed = outcome is Outcome.FAILED
        self.counts["calls"] += 1
        self.counts["failures"] += failed
        if self.retry_at is None:
            bucket = math.floor(now)
            calls, failures = self.window.get(bucket, (0, 0))
            self.window[bucket] = calls + 1, failures + failed
            calls, failures = self.in_window(now)
            if calls >= BREAKER.min_calls and failures / calls >= BREAKER.failure_rate:
                self.open(now)
        elif failed:
            self.open(now)
        else:
            self.passed += 1
            if self.passed == BREAKER.probes:
                self.close()
        return True

    def in_window(self, now: float) -> tuple[int, int]:
        """Calls and failures of the last ten buckets."""
        found = [counts for bucket, counts in self.window.items() if math.floor(now) - BUCKETS < bucket]
        return sum(calls for calls, _ in found), sum(failures for _, failures in found)

    def open(self, now: float) -> None:
        """Opens the circuit."""
        self.streak += 1
        self.counts["opened"] += 1
        self.opened_at, self.retry_at, self.passed = now, now + min(5.0 * 2 ** (self.streak - 1), 15.0), 0
        self.leases.clear()

    def close(self) -> None:
        """Closes it with an empty window."""
        self.retry_at, self.streak, self.passed = None, 0, 0
        self.leases.clear()
        self.window.clear()

    def state(self, now: float) -> BreakerState:
        """What an operator sees."""
        circuit = Circuit.CLOSED
        if self.retry_at is not None:
            circuit = Circuit.OPEN if now < self.retry_at else Circuit.HALF_OPEN
        calls, failures = self.in_window(now)
        counts = [self.counts[name] for name in ("opened", "calls", "failures", "refused")]
        return BreakerState("walk", circuit, failures, calls, self.opened_at, self.retry_at, *counts)


class Walk(RuleBasedStateMachine):
    """One walk. `calls` are all that ever got leave, `probes` those since the circuit became half-open that have not ended."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.model = Model()
        self.now = START
        self.calls: list[str] = []
        self.probes: dict[str, float] = {}

    @rule(seconds=st.sampled_from([0.25, 0.25, 1.0, 3.0, 5.0, 8.0, 10.0, 15.0, 4_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        self._ask(f"call{len(self.calls)}")

    @precondition(lambda self: self.calls)
    @rule()
    def ask_twice(self) -> None:
        self._ask(self.calls[-1])

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), outcome=st.sampled_from([*Outcome, Outcome.FAILED]), times=st.integers(1, 2))
    def report(self, data: st.DataObject, outcome: Outcome, times: int) -> None:
        # The latest ones most of the time: those of long ago have all been told.
        call = self.calls[-data.draw(st.integers(1, min(len(self.calls), 6)))]
        for _ in range(times):
            assert BREAKER.report(self.client, call, outcome, self.now) == self.model.report(call, outcome, self.now)
        self.probes.pop(call, None)

    @rule(outcomes=st.lists(st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED]), min_size=1, max_size=6))
    def call_and_report(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            call = f"call{len(self.calls)}"
            if self._ask(call):
                assert BREAKER.report(self.client, call, outcome, self.now) == self.model.report(call, outcome, self.now)
                self.probes.pop(call, None)

    @precondition(lambda self: self.calls)
    @rule(often=st.integers(0, 9))
    def an_operator_resets_it(self, often: int) -> None:
        if often == 0:
            breaker.reset(self.client, "walk", self.now)
            self.model.close()

    def _ask(self, call: str) -> bool:
        half_open = self.model.state(self.now).state is Circuit.HALF_OPEN
        expected = self.model.ask(call, self.now)
        try:
            BREAKER.ask(self.client, call, self.now)
        except CircuitOpen as refusal:
            assert (refusal.name, refusal.retry_at) == ("walk", expected)
            assert self.now < refusal.retry_at <= self.now + BREAKER.max_open_s
            return False
        assert expected is None
        if call not in self.calls:
            self.calls.append(call)
        if half_open:
            self.probes[call] = self.now + BREAKER.probe_lease_s
        return True

    @invariant()
    def it_stands_where_the_model_stands(self) -> None:
        if self.client.exists(keys.BREAKERS):
            assert breaker.states(self.client, self.now) == [self.model.state(self.now)]

    @invariant()
    def no_more_probes_than_allowed_are_under_way(self) -> None:
        if self.model.state(self.now).state is not Circuit.HALF_OPEN:
            self.probes.clear()
        assert sum(ends_at > self.now for ends_at in self.probes.values()) <= BREAKER.probes

    @invariant()
    def the_hash_is_small_and_expires(self) -> None:
        fields = self.client.hkeys(keys.breaker("walk"))
        leases = [name for name in fields if name.startswith(b"lease:")]
        assert len(fields) - len(leases) <= OTHER_FIELDS + 2 * BUCKETS
        assert not fields or 0 < self.client.ttl(keys.breaker("walk")) <= 86_400


@pytest.mark.timeout(120)
def test_the_script_does_what_the_model_does_on_every_walk(redis_client: redis.Redis) -> None:
    class Here(Walk):
        client = redis_client

    run_state_machine_as_test(
        Here, settings=settings(max_examples=120, stateful_step_count=50, deadline=None, derandomize=True, database=None)
    )
