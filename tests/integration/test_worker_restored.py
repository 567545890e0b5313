"""What a running worker tells a Redis that has come back without it."""

import pytest
import redis
from processes import Processes, wait_for
from servers import Server

from jobs import keys

LIMIT_S = 30.0


@pytest.mark.parametrize("worker_class", ["IoWorker", "CpuWorker"])
def test_a_worker_publishes_its_tasks_and_their_limits_again_after_redis_was_away(
    own_server: Server, processes: Processes, worker_class: str
) -> None:
    client = redis.Redis.from_url(own_server.url)
    processes.worker_class = worker_class
    processes.worker("default", REDIS_URL=own_server.url).prints("worker started", LIMIT_S)
    tasks, limits = client.hgetall(keys.TASKS), client.hgetall(keys.LIMITS)
    assert tasks and limits
    client.delete(keys.TASKS, keys.LIMITS)
    own_server.kill()
    own_server.start()
    wait_for(lambda: client.hgetall(keys.TASKS) == tasks, LIMIT_S, "the tasks are published again")
    wait_for(lambda: client.hgetall(keys.LIMITS) == limits, LIMIT_S, "their limits too")
    client.close()
