"""Whether Redis holds what the queue's model (queue_model.py) says, and nothing that nobody owns."""

from collections.abc import Iterator
from typing import Any

import letters
import redis
import sample_tasks
from queue_model import MAX_CONCURRENT, QUEUES, RATE_GAPS_S, Model, Place

from jobs import key_patterns, keys

LIMITED = (*RATE_GAPS_S, *MAX_CONCURRENT)
ZSETS = (keys.wip, keys.scheduled, keys.failed, keys.finished, keys.canceled, keys.held)
LOCK = sample_tasks.single.spec().lock
FIELDS = ("status", "failures", "crashes", "redrives", "deferred")


def compare(client: redis.Redis, model: Model) -> None:
    """Everything, in one round trip and at one moment."""
    with client.pipeline(transaction=True) as pipeline:
        for queue in QUEUES:
            for zset in ZSETS:
                pipeline.zrange(zset(queue), 0, -1, withscores=True)
            pipeline.lrange(keys.queue(queue), 0, -1)
            pipeline.lrange(keys.intermediate(queue), 0, -1)
            for name in LIMITED:
                pipeline.lrange(keys.held_jobs(queue, name), 0, -1)
            pipeline.hgetall(keys.totals(queue))
        pipeline.zrange(keys.SCHEDULED_JOBS, 0, -1, withscores=True)
        pipeline.zrange(keys.DEAD, 0, -1, withscores=True)
        pipeline.zrange(keys.CANVASES_OPEN, 0, -1)
        pipeline.get(LOCK)
        pipeline.keys(keys.job("*"))
        for canvas_id in model.canvases:
            pipeline.hget(keys.canvas(canvas_id), "status")
            pipeline.get(keys.canvas_states(canvas_id))
        for job_id in model.jobs:
            pipeline.hmget(keys.job(job_id), *FIELDS)
        answers = iter(pipeline.execute())
    for queue in QUEUES:
        _compare_place(queue, model.places[queue], answers)
    assert (_scores(next(answers)), _scores(next(answers))) == (model.delayed, model.died_at)
    assert set(_texts(next(answers))) == {name for name in model.canvases if model.canvas_status(name) != "finished"}
    lock = next(answers)
    assert (lock and lock.decode()) == model.holder
    assert set(_texts(next(answers))) == {keys.job(job_id) for job_id in model.jobs}
    for canvas_id, states in model.canvases.items():
        assert next(answers).decode() == model.canvas_status(canvas_id)
        found = next(answers).decode()
        assert {node: found[node] for node in (1, 3, 4, 5) if found[node] != "\0"} == states
    for job_id, job in model.jobs.items():
        status, *counts = next(answers)
        assert (job_id, status.decode()) == (job_id, job.status)
        assert [int(count or 0) for count in counts] == [job.failures, job.crashes, job.redrives, job.deferred]


def _compare_place(queue: str, place: Place, answers: Iterator[Any]) -> None:
    wip, retried, failed, finished, cancelled, held_until = (_scores(next(answers)) for _ in ZSETS)
    assert (queue, wip, retried, set(failed)) == (queue, place.wip, place.retried, place.dead)
    assert (queue, finished, cancelled) == (queue, place.finished, place.cancelled)
    assert (queue, _texts(next(answers)), _texts(next(answers))) == (queue, place.ready, place.parked)
    assert {name: held for name in LIMITED if (held := _texts(next(answers)))} == place.held
    assert held_until == place.held_until
    assert {name.decode(): int(count) for name, count in next(answers).items()} == {n: c for n, c in place.totals.items() if c}


def check_keys(client: redis.Redis) -> None:
    """Every key is one of jobs/keys.py, of the type that it says, and every dead letter stands in its group."""
    letters.check_index(client)
    names = client.keys()
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.type(name)
        types = pipeline.execute()
    for name, kind in zip(map(bytes.decode, names), map(bytes.decode, types), strict=True):
        assert [entry.type for entry in key_patterns.of(name)][:1] == [kind], name


def _texts(items: list[bytes]) -> list[str]:
    return [item.decode() for item in items]


def _scores(items: list[tuple[bytes, float]]) -> dict[str, float]:
    return {member.decode(): score for member, score in items}
