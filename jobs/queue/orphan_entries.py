"""Entries of indexes that lead to nothing, and things that no index leads to: jobs' ids, canvases, workers, locks, batches."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import redis

from jobs import keys
from jobs.queue import batches, canvas_store
from jobs.queue.orphan_jobs import CHUNK, chunks
from jobs.queue.orphans import ByKeys, Finding, Kind, Part, Seen, asked
from jobs.queue.overview import queue_names
from jobs.queue.periodic import definition_id
from jobs.queue.script import beside

ENTRY = beside(__file__, "mend_entry")
KEY = beside(__file__, "mend_key")
INDEX = beside(__file__, "mend_index")
LOCK = beside(__file__, "mend_lock")
DUE = beside(__file__, "mend_due")
IDS = beside(__file__, "mend_ids")
LOST = beside(__file__, "canvas_lost")
EXPIRED_S = 60.0
"""Entries of jobs that are about to expire leave with their registry's next change: clocks differ a little."""


def _new_job(client: redis.Redis, finding: Finding) -> None:
    """A buffer of this program is given a job; of another one's, a job that is gone is forgotten."""
    if any(buffer.due == finding.keys[0] for buffer in batches.BUFFERS.values()):
        batches.heal(client, time.time())
    else:
        DUE(client, finding.keys, [1])


def _restart(client: redis.Redis, _finding: Finding) -> None:
    canvas_store.reconcile(client, now=time.time(), after_s=0.0)


ENTRY_OF_NOTHING = Kind("entry-of-nothing", "an entry of an index that leads to nothing", "removes the entry", ENTRY)
SLOT = Kind("slot-of-nothing", "a running job of a task without max_concurrent, which does not run", "removes the entry", ENTRY)
KEY_OF_NOTHING = Kind("key-of-nothing", "a key that belongs to something that is gone", "deletes the key", KEY)
UNLISTED = Kind("not-in-index", "something that its index does not name", "puts it into its index", INDEX)
LOCK_LEFT = Kind("lock-left", "the lock of a unique job that has ended", "frees the lock", LOCK)
NOT_COMING = Kind("batch-without-job", "items that no job will take", "gives them a job", DUE, _new_job)
IDS_DIFFER = Kind("batch-ids", "ids of a batch that are not those of its items", "makes the ids anew", IDS)
MEMBER_LOST = Kind("canvas-member-lost", "a member of an open canvas without a job", "makes its job anew", LOST, _restart)


def _leading(members: Callable[[redis.Redis, str], Iterator[Sequence[str]]], to: Callable[[str], Sequence[str]]) -> ByKeys:
    """Finds the members of indexes none of whose keys exists."""

    def find(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
        for seen in page:
            for chunk in members(client, seen.name):
                for member, number in zip(chunk, asked(client, [("EXISTS", *to(member)) for member in chunk]), strict=True):
                    if number == 0:
                        yield Finding(ENTRY_OF_NOTHING, (seen.name, *to(member)), (member,))

    return find


def _in_list(client: redis.Redis, key: str) -> Iterator[Sequence[str]]:
    return ([entry.decode(errors="replace") for entry in chunk] for chunk in chunks(client, key))


def _in_set(client: redis.Redis, key: str) -> Iterator[Sequence[str]]:
    yield [entry.decode(errors="replace") for entry in client.sscan_iter(key, count=CHUNK)]


def in_zset(client: redis.Redis, key: str, from_s: float = 0.0) -> Iterator[Sequence[str]]:
    """The members, part by part; with `from_s` those whose time is not over so soon."""
    least, cursor = time.time() + from_s if from_s else float("-inf"), -1
    while cursor:
        cursor, part = client.zscan(key, max(cursor, 0), count=CHUNK)
        yield [member.decode(errors="replace") for member, score in part if score >= least]


def _job(job_id: str) -> list[str]:
    return [keys.job(job_id.partition(":")[0])]


def _delayed(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    """A registered definition that is gone comes back, and finds its place again."""
    registered = {definition_id(name.decode(errors="replace")) for name in client.smembers(keys.PERIODIC)}
    found = _leading(in_zset, _job)(client, page)
    return (finding for finding in found if finding.args[0] not in registered)


def _slots(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    """claim.lua clears the slots of limited tasks when it needs them; those of a task without a limit nobody."""
    for seen in page:
        limit = client.hget(keys.LIMITS_OVERRIDE, seen.holds) or client.hget(keys.LIMITS, seen.holds) or b":"
        for entry in [] if limit.rpartition(b":")[2] else client.zrange(seen.name, 0, -1):
            queue, _, member = entry.decode(errors="replace").rpartition("|")
            if client.zscore(keys.wip(queue), member) is None:
                yield Finding(SLOT, (seen.name, keys.wip(queue)), (f"{queue}|{member}", member))


def _needed(owner: Callable[[str], str]) -> ByKeys:
    """Suspects keys that do not expire: their owner may not exist."""
    return lambda _client, page: (Finding(KEY_OF_NOTHING, (s.name, owner(s.holds))) for s in page if s.ttl_s == -1)


def _periodic(_client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    for seen in page:
        name = seen.name.removeprefix(keys.periodic("")).partition(":")[0]
        yield Finding(KEY_OF_NOTHING, (seen.name, keys.PERIODIC), (name,))


def _queues(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    yield from (Finding(UNLISTED, (seen.name, keys.QUEUES), (seen.name, "")) for seen in page)
    yield from _leading(_in_list, _job)(client, page)


def _held(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    queues = queue_names(client)
    for seen in page:
        for queue in (name for name in queues if seen.name.startswith(keys.held_jobs(name, ""))):
            yield Finding(UNLISTED, (seen.name, keys.held(queue)), (seen.name.removeprefix(keys.held_jobs(queue, "")), "0"))
    yield from _leading(_in_list, _job)(client, page)


def _held_tasks(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    for seen in page:
        yield from _leading(in_zset, _held_by(seen.holds))(client, [seen])


def _held_by(queue: str) -> Callable[[str], Sequence[str]]:
    return lambda task: [keys.held_jobs(queue, task)]


def _records(index: str, *belongs: str) -> ByKeys:
    """Suspects records that their index does not name; `belongs`: mend_index.lua's arguments from the score on."""
    return lambda _client, page: (Finding(UNLISTED, (seen.name, index), (seen.holds, *belongs)) for seen in page)


_open_canvases = _records(keys.CANVASES_OPEN, "0", "status", "running", "failed")


def _canvases(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    yield from _open_canvases(client, page)
    yield from (Finding(MEMBER_LOST, (seen.name,)) for seen in page)


def _buffers(_client: redis.Redis) -> Iterator[Finding]:
    return (Finding(NOT_COMING, (buffer.due, buffer.items)) for buffer in batches.BUFFERS.values())


def _batches(_client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    for name in (seen.holds for seen in page):
        yield Finding(IDS_DIFFER, (keys.batch(name), keys.batch_ids(name)))
        yield Finding(NOT_COMING, (keys.batch_due(name), keys.batch(name)))


def _locks(_client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    return (Finding(LOCK_LEFT, (seen.name,)) for seen in page)


_of_canvas, _listed = _needed(keys.canvas), _leading(in_zset, _job)
_unexpired = _leading(partial(in_zset, from_s=EXPIRED_S), _job)
PART = Part(
    whole=[_buffers],
    named={
        "queue": _queues,
        "intermediate": _leading(_in_list, _job),
        "held_jobs": _held,
        "held": _held_tasks,
        "wip": _listed,
        "scheduled": _listed,
        "SCHEDULED_JOBS": _delayed,
        "failed": _listed,
        "deferred": _listed,
        "finished": _unexpired,
        "canceled": _unexpired,
        "WORKERS": _leading(_in_set, lambda key: [key]),
        "workers": _leading(_in_set, lambda key: [key]),
        "running": _slots,
        "results": _needed(keys.job),
        "unique": _locks,
        "PERIODIC": _leading(_in_set, lambda name: [keys.job(definition_id(name)), keys.periodic(name)]),
        "periodic": _periodic,
        "periodic_runs": _periodic,
        "REDRIVES": _leading(partial(in_zset, from_s=float("inf")), lambda record: [keys.redrive(record)]),
        "redrive": _records(keys.REDRIVES, "+inf", "state", "open"),
        "redrive_letters": _needed(keys.redrive),
        "CANVASES_OPEN": _leading(in_zset, lambda canvas: [keys.canvas(canvas)]),
        "canvas": _canvases,
        "canvas_nodes": _of_canvas,
        "canvas_states": _of_canvas,
        "canvas_results": _of_canvas,
        "canvas_todo": _of_canvas,
        "canvas_failed": _of_canvas,
        "batch": _batches,
        "batch_ids": _batches,
        "batch_due": _batches,
    },
)
