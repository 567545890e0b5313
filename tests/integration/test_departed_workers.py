"""Workers that died without a word leave no index, not even that of a queue to which nothing was ever pushed."""

import redis

from jobs import keys
from scheduler.registries import Registries

NOW = 1_800_000_000.0
QUEUES = ("delivery", "notify")


def test_a_dead_worker_is_forgotten_on_a_queue_that_has_never_had_a_job(redis_client: redis.Redis) -> None:
    worker, duty = keys.worker("courier"), Registries(redis_client)
    for index in (keys.WORKERS, *map(keys.workers, QUEUES)):
        redis_client.sadd(index, worker)
    redis_client.hset(worker, mapping={"birth": "2027-01-15T08:00:00.000000Z", "queues": ",".join(QUEUES)})
    duty.tick(NOW)
    assert redis_client.smembers(keys.workers("notify")) == {worker.encode()}, "it lives"
    redis_client.delete(worker)
    duty.tick(NOW + 5)
    assert not redis_client.exists(keys.WORKERS, *map(keys.workers, QUEUES))
