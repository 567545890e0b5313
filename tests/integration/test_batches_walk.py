"""Random walks of a batch: items come, workers stall, die and come back, jobs get lost. Each item ends once, by one outcome."""

import time
from typing import Any

import hypothesis.strategies as st
import pytest
import redis
from hands import Hands
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from job_watch import status
from sample_batches import gather

from jobs import keys
from jobs.queue import dead_letters, ending
from jobs.queue.batches import heal
from jobs.queue.ending import Claim

QUEUE = "default"
ITEMS = [f"good{n}" for n in range(8)] + ["bad1", "bad2"]
EXAMPLES = 25
STEPS = 40


def item(item_id: str) -> dict[str, Any]:
    return {"fail": "no"} if item_id.startswith("bad") else {"give": item_id}


class Walk(RuleBasedStateMachine):
    """One walk. `claims` are jobs in workers' hands, some of them long reclaimed by others."""

    client: redis.Redis
    hands: Hands

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.added: set[str] = set()
        self.claims: list[Claim] = []

    @rule(ids=st.lists(st.sampled_from(ITEMS), max_size=5))
    def add(self, ids: list[str]) -> None:
        gather.add_many(self.client, [item(item_id) for item_id in ids], ids)
        self.added.update(ids)

    @rule()
    def work(self) -> None:
        self.hands.work(QUEUE)

    @rule()
    def claim(self) -> None:
        claim = self.hands.claim(QUEUE)
        if claim is not None:
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), how=st.sampled_from(["die", "finish", "fail", "release"]))
    def run(self, data: st.DataObject, how: str) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        try:
            result = self.hands.run(claim)
        except ValueError as error:
            self.hands.fail(claim, error)
            return
        if how == "finish":
            self.hands.finish(claim, result)
        elif how == "fail":
            self.hands.fail(claim, TimeoutError("too long"))
        elif how == "release":
            ending.release(self.client, claim, time.time())

    @rule()
    def reclaim(self) -> None:
        for member in self.hands.reclaim(QUEUE)[1]:
            ending.bury_crashed(self.client, QUEUE, member, time.time())

    @rule()
    def promote(self) -> None:
        self.hands.promote(QUEUE)

    @rule()
    def heal(self) -> None:
        heal(self.client, time.time())

    @rule()
    def lose_the_batch_job(self) -> None:
        due = self.client.get(keys.batch_due("sample.gather"))
        if due is not None:
            self.client.lrem(keys.queue(QUEUE), 0, due)
            self.client.zrem(keys.scheduled(QUEUE), due)
            self.client.delete(keys.job(due.decode()))

    @invariant()
    def an_item_waits_once_or_has_a_job(self) -> None:
        waiting = [entry.decode().split(" ")[0] for entry in self.client.lrange(keys.batch("sample.gather"), 0, -1)]
        known = {item_id.decode() for item_id in self.client.smembers(keys.batch_ids("sample.gather"))}
        assert sorted(waiting) == sorted(known)
        assert not waiting or self.client.exists(keys.batch_due("sample.gather")), "nothing leads to what waits"
        with_job = {item_id for item_id in self.added if self.client.exists(keys.job(gather.job_id(item_id)))}
        assert (known | with_job, known & with_job) == (self.added, set())

    def teardown(self) -> None:
        for _ in range(12):
            self.heal()
            self.reclaim()
            self.promote()
            self.hands.work_off(QUEUE)
        assert not self.client.exists(keys.queue(QUEUE), keys.wip(QUEUE), keys.scheduled(QUEUE))
        assert not list(self.client.scan_iter("turnstile:batch:*"))
        for item_id in self.added:
            job_id = gather.job_id(item_id)
            assert self.client.xlen(keys.results(job_id)) == 1, item_id
            if item_id.startswith("bad") or status(self.client, job_id) == "failed":
                assert dead_letters.get(self.client, job_id).error_type in ("ValueError", "TimeoutError", "Quarantined")
            else:
                assert status(self.client, job_id) == "finished"


@pytest.mark.timeout(170)
def test_every_item_has_one_outcome_on_every_walk(
    redis_client: redis.Redis, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "linger_s", 60.0)

    class Here(Walk):
        client = redis_client

    Here.hands = hands
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    phases = [Phase.generate, Phase.shrink]
    run_state_machine_as_test(
        Here, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, suppress_health_check=checks, phases=phases)
    )
