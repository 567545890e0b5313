"""What a job without work costs Redis in commands, from its call to its end, in full batches."""

import time
from functools import partial

import pytest
import redis
import sample_tasks
from command_counts import commands_during

from jobs.queue import calling, claiming, ending
from jobs.queue.claiming import Claims
from jobs.queue.ending import Written
from jobs.queue.outcome import Outcome
from jobs.queue.script import exchange

N = 100


@pytest.mark.parametrize(
    ("kept", "ttl_s", "results", "most"),
    [
        ("off", 0, ["null"] * N, 0.2),
        ("kept, None", 500, ["null"] * N, 3.2),
        ("kept, all different", 500, [str(number) for number in range(N)], 5.2),
    ],
)
def test_a_job_in_a_full_batch_takes_few_commands(
    redis_client: redis.Redis, kept: str, ttl_s: int, results: list[str], most: float
) -> None:
    def enqueue(now: float) -> None:
        specs = [sample_tasks.add.spec(1, 2, now=now) for _ in range(N)]
        assert all(new for _id, new in calling.place_many(redis_client, specs, now=now))

    def claim(now: float) -> Claims:
        executions = [f"e{number:x}" for number in range(N)]
        return claiming.claim(redis_client, ["default"], "w", 4.0, now=now, executions=executions)

    def finish(claims: Claims) -> None:
        outcomes = [Outcome("finished", "sample.add", now, result.encode(), ttl_s) for result in results]
        [answer] = exchange(redis_client, [ending.finishing(list(zip(claims.jobs, outcomes, strict=True)))])
        assert answer == [Written.NOW] * N

    now = time.time()
    for _ in range(2):  # the scripts and the queue are known when it counts
        redis_client.hset("rq:worker:w", "birth", "x")
        enqueued, _ = commands_during(redis_client, partial(enqueue, now))
        claimed, claims = commands_during(redis_client, partial(claim, now))
        finished, _ = commands_during(redis_client, partial(finish, claims))
    print(f"\nresults {kept}: commands a job: enqueue {enqueued / N:.2f}, claim {claimed / N:.2f}, finish {finished / N:.2f}")
    assert enqueued / N <= 1.1
    assert claimed / N <= 2.1
    assert finished / N <= most
    assert claimed + finished <= (6 if len(set(results)) == 1 else 8) * N
