"""How a worker starts, and how it says why it cannot."""

from pathlib import Path

import pytest
import redis
import sample_tasks
from cutting import Cutting
from hands import Hands
from job_watch import LIMIT_S, send, wait_until
from processes import Process, Processes

from jobs.queue import dead_letters

CUTS = 6
"""More than redis-py tries again by itself."""


@pytest.mark.parametrize(
    ("options", "environ", "said"),
    [
        (("-w", "rq.Worker"), {}, "Turnstile's jobs are JSON: run a stock worker with `-S json`"),
        ((), {"TURNSTILE_LEASE": "3"}, "unknown setting; did you mean TURNSTILE_LEASE_S?"),
        ((), {"REDIS_URL": "http://h"}, "must start with redis://, rediss:// or unix://"),
    ],
)
def test_a_worker_that_cannot_work_says_why_and_ends(
    redis_client: redis.Redis, processes: Processes, options: tuple[str, ...], environ: dict[str, str], said: str
) -> None:
    worker: Process = processes.worker("default", options=options, **environ)
    assert worker.ended(LIMIT_S) == 2
    assert said in worker.output
    assert "Traceback" not in worker.output


def test_the_products_own_configuration_knows_the_products_tasks_only(
    redis_client: redis.Redis, processes: Processes, hands: Hands
) -> None:
    processes.worker("default", config="jobs.rq_config")
    job_id = send(redis_client, sample_tasks.add.spec(1, 2))
    wait_until(redis_client, job_id, "failed")
    letter = dead_letters.get(redis_client, job_id)
    assert (letter.error_type, letter.error) == ("UnknownTask", "task 'sample_tasks.add' is not on the allow-list")


def test_a_worker_whose_command_loses_its_connection_while_it_starts_waits_and_works(
    redis_client: redis.Redis, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    front = Cutting(tmp_path, redis_url)
    front.cut(b"rq:suspended", times=CUTS)
    worker = processes.worker("default", REDIS_URL=front.url)
    worker.prints("worker started", LIMIT_S)
    assert front.cuts == CUTS
    job_id = send(redis_client, sample_tasks.add.spec(1, 2))
    wait_until(redis_client, job_id, "finished")
    front.close()
