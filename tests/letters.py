"""Dead letters for the tests, one or thousands, and whether their index by group is true."""

import base64
import zlib

import redis
import sample_tasks

from jobs import keys
from jobs.queue import attempts
from jobs.queue.attempts import Attempt
from jobs.queue.ending import BURY, Claim, bury
from jobs.queue.job import Call
from jobs.queue.script import load

CHUNK = 1_000


def bury_now(client: redis.Redis, job_id: str, error: str, died_at: float) -> None:
    """Makes a dead letter of a job as a stock worker does, wherever it is."""
    claim = Claim(job_id, "", "default", "w", client.hgetall(keys.job(job_id)), died_at)
    bury(client, claim, Attempt(1, died_at, died_at, "w", "ValueError", error, "Traceback: " + error), fenced=False)


def named(number: int) -> str:
    """A number as letters, which the fingerprint of an error tells apart: a, b, ... p, ba."""
    return "".join("abcdefghijklmnop"[int(digit, 16)] for digit in f"{number:x}")


def bury_many(client: redis.Redis, ids: list[str], died_at: float, *, n_groups: int = 1) -> None:
    """Makes jobs and dead letters of them, the first the oldest, a millisecond between two."""
    load(client, BURY)
    client.sadd(keys.QUEUES, keys.queue("default"))
    for start in range(0, len(ids), CHUNK):
        with client.pipeline(transaction=False) as pipeline:
            for number, job_id in enumerate(ids[start : start + CHUNK], start):
                call = Call(sample_tasks.fail.path, (f"x{number}",), {})
                _bury(pipeline, job_id, call, f"no {named(number % n_groups)}", repr(died_at + number / 1000))
            pipeline.execute()


def _bury(pipeline: redis.client.Pipeline, job_id: str, call: Call, error: str, died_at: str) -> None:
    pipeline.hset(keys.job(job_id), mapping={"data": call.encode(), "task": "sample.fail", "origin": "default"})
    trace = "Traceback (most recent call last)\n" * 30
    places = [keys.job(job_id), keys.wip("default"), keys.failed("default"), keys.results(job_id), keys.worker("w")]
    group = attempts.fingerprint("sample.fail", "ValueError", error)
    history = attempts.append(b"", Attempt(1, 0.0, 0.0, "w", "ValueError", error, trace))
    packed = base64.b64encode(zlib.compress(trace.encode())).decode()
    args: list[str | int] = [job_id, "", "default", died_at, 1, history, trace, packed, group, "ValueError", error, "w"]
    BURY.in_pipeline(pipeline, places, args)


def check_index(client: redis.Redis) -> None:
    """Every dead letter is in exactly one group, with its instant, and every group that is listed has letters."""
    listed = {name.decode() for name in client.hkeys(keys.DEAD_GROUPS)}
    prefix = keys.dead_group("")
    stored = {key.decode().removeprefix(prefix) for key in client.scan_iter(match=f"{prefix}*", count=1_000)}
    grouped = [entry for name in sorted(stored) for entry in client.zrange(keys.dead_group(name), 0, -1, withscores=True)]
    assert listed == stored
    sizes = {name.decode(): size for name, size in client.zrange(keys.DEAD_SIZES, 0, -1, withscores=True)}
    assert sizes == {name: client.zcard(keys.dead_group(name)) for name in stored}
    assert sorted(grouped) == sorted(client.zrange(keys.DEAD, 0, -1, withscores=True))
