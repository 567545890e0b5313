"""Jobs that nothing leads to: their hash says that they wait, run or have ended somewhere, and they are not there."""

import time
from collections.abc import Callable, Iterator, Sequence

import redis

from jobs import keys
from jobs.queue import dead_letters
from jobs.queue.job import CANCELLED_TTL_S, rq_time
from jobs.queue.orphans import Finding, Kind, Part, Seen, Settle, Target, asked
from jobs.queue.script import beside

MEND = beside(__file__, "mend_job")
CHUNK = 1_000
"""Entries of an index in one answer: some milliseconds of Redis' time at most."""
REGISTRIES: dict[bytes, Callable[[str], str]] = {
    b"scheduled": keys.scheduled,
    b"failed": keys.failed,
    b"stopped": keys.failed,
    b"deferred": keys.deferred,
    b"finished": keys.finished,
    b"canceled": keys.canceled,
}


def _settle(name: str) -> Settle:
    def settle(client: redis.Redis, target: Target, act: bool) -> bool:
        [job_id] = target
        said: bytes = MEND(client, [keys.job(job_id), keys.PERIODIC], [job_id, CANCELLED_TTL_S, int(act)])
        if act and said == b"job-unlisted":
            queue, status = client.hmget(keys.job(job_id), "origin", "status")
            if status != b"deferred":
                dead_letters.adopt(client, (queue or b"default").decode(errors="replace"), job_id, time.time())
        return said.decode() == name

    return settle


def _kind(name: str, says: str, mends: str) -> Kind:
    return Kind(name, says, mends, _settle(name), last=True)


LOST = _kind("job-lost", "a job that waits or runs nowhere, though its status says so", "puts it in front of its queue")
UNLISTED = _kind("job-unlisted", "a failed or deferred job that is in no registry", "puts it back into its registry")
FOR_EVER = _kind("job-for-ever", "an ended job without an expiry that is in no registry", "keeps it for a day")
FRAGMENT = _kind("job-fragment", "a job's hash without a call, which cannot be run", "deletes it")
DEFINITION = _kind("definition-left", "the definition of a periodic job that is not registered", "deletes it")


class Places:
    """The ids of all jobs that stand in a list or have a lease, as they were between two instants."""

    def __init__(self, client: redis.Redis) -> None:
        seconds, micros = client.time()
        self.since = rq_time(seconds + micros / 1e6).encode()
        self.ids: set[bytes] = set()
        for queue in _queues(client):
            lists = [keys.queue(queue), keys.intermediate(queue)]
            tasks = client.zrange(keys.held(queue), 0, -1) if client.type(keys.held(queue)) == b"zset" else []
            lists += [keys.held_jobs(queue, task.decode(errors="replace")) for task in tasks]
            for key in lists:
                self.ids.update(job_id for chunk in chunks(client, key) for job_id in chunk)
            if client.type(keys.wip(queue)) == b"zset":
                self.ids.update(member.partition(b":")[0] for member, _lease in client.zscan_iter(keys.wip(queue), count=CHUNK))


def _queues(client: redis.Redis) -> list[str]:
    return [key.decode(errors="replace").removeprefix(keys.queue("")) for key in client.smembers(keys.QUEUES)]


def chunks(client: redis.Redis, key: str) -> Iterator[list[bytes]]:
    """A list, part by part; what moves meanwhile may be passed over. Nothing of what is no list."""
    start = 0
    while client.type(key) == b"list" and (chunk := client.lrange(key, start, start + CHUNK - 1)):
        yield chunk
        start += CHUNK


def part(places: Places) -> Part:
    """Looks at every job's hash, beside the places that were read before."""

    def jobs(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
        hashes = asked(client, [("HMGET", seen.name, "status", "origin", "enqueued_at") for seen in page])
        calls = asked(client, [("HEXISTS", seen.name, "data") for seen in page])
        listed: list[tuple[Seen, bytes, str]] = []
        for seen, found, has_call in zip(page, hashes, calls, strict=True):
            if not isinstance(found, list):
                continue
            status, origin, enqueued_at = found
            if not has_call:
                yield Finding(FRAGMENT, (seen.holds,))
            elif status in (b"queued", b"started"):
                # One that was queued after the lists were read can be in none of them.
                if seen.holds.encode() not in places.ids and not (enqueued_at and enqueued_at > places.since):
                    yield Finding(LOST, (seen.holds,))
            elif status in REGISTRIES and not (status != b"scheduled" and seen.ttl_s != -1):
                listed.append((seen, status, (origin or b"default").decode(errors="replace")))
        scores = asked(client, [("ZSCORE", REGISTRIES[status](queue), seen.holds) for seen, status, queue in listed])
        delayed = asked(client, [("ZSCORE", keys.SCHEDULED_JOBS, seen.holds) for seen, _status, _queue in listed])
        for (seen, status, _queue), score, due_at in zip(listed, scores, delayed, strict=True):
            if status == b"scheduled" and score is None and due_at is None:
                yield Finding(DEFINITION if seen.holds.startswith("cron-") else LOST, (seen.holds,))
            elif status in (b"finished", b"canceled") and score != float("inf"):
                yield Finding(FOR_EVER, (seen.holds,))
            elif status in (b"failed", b"stopped", b"deferred") and score is None:
                yield Finding(UNLISTED, (seen.holds,))

    return Part(named={"job": jobs})
