"""Jobs that nothing leads to: their hash says that they wait, run or have ended somewhere, and they are not there."""

import time
from collections.abc import Iterator, Sequence

import redis

from jobs import keys
from jobs.queue import dead_letters
from jobs.queue.job import CANCELLED_TTL_S, rq_time
from jobs.queue.orphans import Finding, Kind, Part, Seen, asked, named
from jobs.queue.overview import queue_names
from jobs.queue.script import beside

MEND = beside(__file__, "mend_job")
CHUNK = 1_000
"""Entries of an index in one answer: some milliseconds of Redis' time at most."""
WAITING = (b"queued", b"started", b"scheduled")


def _put_back(client: redis.Redis, finding: Finding) -> None:
    """Dies in the middle: then the scheduler makes the dead letter."""
    MEND(client, finding.keys, [1, *finding.args])
    queue, status = client.hmget(finding.keys[0], "origin", "status")
    if status != b"deferred":
        job_id = finding.keys[0].removeprefix(keys.job(""))
        dead_letters.adopt(client, (queue or b"default").decode(errors="replace"), job_id, time.time())


LOST = Kind(
    "job-lost", "a job that waits or runs nowhere, though its status says so", "puts it in front of its queue", MEND, last=True
)
UNDATED = Kind("job-undated", "a delayed job in no set: cancelled with RQ's own tools, or its time was lost", "", MEND)
UNLISTED = Kind("job-unlisted", "a failed or deferred job in no registry", "puts it back", MEND, _put_back, last=True)
FOR_EVER = Kind("job-for-ever", "an ended job without an expiry that is in no registry", "keeps it for a day", MEND, last=True)
FRAGMENT = Kind("job-fragment", "a job's hash without a call, which cannot be run", "deletes it", MEND, last=True)
DEFINITION = Kind("definition-left", "the definition of a periodic job that is not registered", "deletes it", MEND, last=True)
KINDS = (LOST, UNDATED, UNLISTED, FOR_EVER, FRAGMENT, DEFINITION)


class Places:
    """The ids of all jobs that stand in a list or have a lease, as they were between two instants."""

    def __init__(self, client: redis.Redis) -> None:
        seconds, micros = client.time()
        self.since = rq_time(seconds + micros / 1e6).encode()
        self.ids: set[bytes] = set()
        for queue in queue_names(client):
            lists = [keys.queue(queue), keys.intermediate(queue)]
            tasks = client.zrange(keys.held(queue), 0, -1) if client.type(keys.held(queue)) == b"zset" else []
            lists += [keys.held_jobs(queue, task.decode(errors="replace")) for task in tasks]
            for key in lists:
                self.ids.update(job_id for chunk in chunks(client, key) for job_id in chunk)
            if client.type(keys.wip(queue)) == b"zset":
                self.ids.update(member.partition(b":")[0] for member, _lease in client.zscan_iter(keys.wip(queue), count=CHUNK))


def chunks(client: redis.Redis, key: str) -> Iterator[list[bytes]]:
    """A list, part by part; what moves meanwhile may be passed over. Nothing of what is no list."""
    start = 0
    while client.type(key) == b"list" and (chunk := client.lrange(key, start, start + CHUNK - 1)):
        yield chunk
        start += CHUNK


def part(places: Places) -> Part:
    """Looks at every job's hash, beside the places that were read before."""

    def jobs(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
        suspects = []
        for seen, found in zip(
            page, asked(client, [("HMGET", seen.name, "status", "enqueued_at") for seen in page]), strict=True
        ):
            status, enqueued_at = found if isinstance(found, list) else (b"queued", None)
            # One that was queued after the lists were read can be in none of them.
            placed = seen.holds.encode() in places.ids or bool(enqueued_at and enqueued_at > places.since)
            if (status in WAITING or seen.ttl_s == -1) and not (placed and status in WAITING):
                suspects.append(Finding(LOST, (seen.name, keys.PERIODIC), (CANCELLED_TTL_S,)))
        yield from named(client, suspects, KINDS)

    return Part(named={"job": jobs})
