"""Entries of indexes that lead to nothing, and things that no index leads to: jobs' ids, canvases, workers, locks, batches."""

import re
import time
from collections.abc import Callable, Iterator, Sequence

import redis

from jobs import keys
from jobs.queue import batches, canvas_store
from jobs.queue.orphan_jobs import CHUNK, chunks
from jobs.queue.orphans import ByKeys, Finding, Kind, Part, Seen, Target, asked
from jobs.queue.periodic import definition_id
from jobs.queue.script import beside

ENTRY = beside(__file__, "mend_entry")
KEY = beside(__file__, "mend_key")
INDEX = beside(__file__, "mend_index")
LOCK = beside(__file__, "mend_lock")
DUE = beside(__file__, "mend_due")
IDS = beside(__file__, "mend_ids")
ENDED = (b"finished", b"failed", b"canceled", b"stopped")
EXPIRED_S = 60.0
"""Entries of jobs that are about to expire leave with their registry's next change: clocks differ a little."""


def _entry(client: redis.Redis, target: Target, act: bool) -> int:
    index, entry, *leads_to = target
    return int(ENTRY(client, [index, *leads_to], [entry, "", int(act)]))


def _slot(client: redis.Redis, target: Target, act: bool) -> int:
    index, entry, wip, member = target
    return int(ENTRY(client, [index, wip], [entry, member, int(act)]))


def _key(client: redis.Redis, target: Target, act: bool) -> int:
    key, needed_by, *member = target
    return int(KEY(client, [key, needed_by], ["".join(member), int(act)]))


def _index(client: redis.Redis, target: Target, act: bool) -> int:
    thing, index, entry, score, *when = target
    return int(INDEX(client, [thing, index], [entry, score, int(act), *when]))


def _lock(client: redis.Redis, target: Target, act: bool) -> int:
    return int(LOCK(client, target, [int(act)]))


def _due(client: redis.Redis, target: Target, act: bool) -> int:
    """A buffer of this program is given a job; of another one's, a job that is gone is forgotten."""
    known = any(buffer.due == target[0] for buffer in batches.BUFFERS.values())
    wrong = int(DUE(client, target, [int(act and not known)]))
    if wrong and act and known:
        batches.heal(client, time.time())
    return wrong


def _ids(client: redis.Redis, target: Target, act: bool) -> int:
    return int(IDS(client, target, [int(act)]))


def _member(client: redis.Redis, target: Target, act: bool) -> bool:
    canvas_id, node = target
    with client.pipeline(transaction=True) as pipeline:
        pipeline.hget(keys.canvas(canvas_id), "status")
        pipeline.getrange(keys.canvas_states(canvas_id), node, node)
        pipeline.exists(keys.job(f"{canvas_id}-{node}"))
        status, state, exists = pipeline.execute()
    lost = status in (b"running", b"failed") and state == b"s" and not exists
    return canvas_store.restart(client, canvas_id, int(node), time.time()) if lost and act else lost


ENTRY_OF_NOTHING = Kind("entry-of-nothing", "an entry of an index that leads to nothing", "removes the entry", _entry)
SLOT = Kind("slot-of-nothing", "a running job of a task without max_concurrent, which does not run", "removes the entry", _slot)
KEY_OF_NOTHING = Kind("key-of-nothing", "a key that belongs to something that is gone", "deletes the key", _key)
UNLISTED = Kind("not-in-index", "something that its index does not name", "puts it into its index", _index)
LOCK_LEFT = Kind("lock-left", "the lock of a unique job that has ended", "frees the lock", _lock)
NOT_COMING = Kind("batch-without-job", "items that no job will take", "gives them a job", _due)
IDS_DIFFER = Kind("batch-ids", "ids of a batch that are not those of its items", "makes the ids anew", _ids)
MEMBER_LOST = Kind("canvas-member-lost", "a member of an open canvas without a job", "makes its job anew", _member)


def _leading(members: Callable[[redis.Redis, str], Iterator[Sequence[str]]], to: Callable[[str], Sequence[str]]) -> ByKeys:
    """Finds the members of indexes none of whose keys exists."""

    def find(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
        for seen in page:
            for chunk in members(client, seen.name):
                for member, number in zip(chunk, asked(client, [("EXISTS", *to(member)) for member in chunk]), strict=True):
                    if number == 0:
                        yield Finding(ENTRY_OF_NOTHING, (seen.name, member, *to(member)))

    return find


def _in_list(client: redis.Redis, key: str) -> Iterator[Sequence[str]]:
    return ([entry.decode(errors="replace") for entry in chunk] for chunk in chunks(client, key))


def _in_set(client: redis.Redis, key: str) -> Iterator[Sequence[str]]:
    yield [entry.decode(errors="replace") for entry in client.sscan_iter(key, count=CHUNK)]


def in_zset(client: redis.Redis, key: str) -> Iterator[Sequence[str]]:
    """The members, part by part."""
    yield from _scored(client, key, float("-inf"))


def _unexpired(client: redis.Redis, key: str) -> Iterator[Sequence[str]]:
    yield from _scored(client, key, time.time() + EXPIRED_S)


def _open(client: redis.Redis, key: str) -> Iterator[Sequence[str]]:
    yield from _scored(client, key, float("inf"))


def _scored(client: redis.Redis, key: str, least: float) -> Iterator[Sequence[str]]:
    cursor = -1
    while cursor:
        cursor, part = client.zscan(key, max(cursor, 0), count=CHUNK)
        yield [member.decode(errors="replace") for member, score in part if score >= least]


def _job(job_id: str) -> list[str]:
    return [keys.job(job_id.partition(":")[0])]


def _delayed(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    """A registered definition that is gone comes back, and finds its place again."""
    registered = {definition_id(name.decode(errors="replace")) for name in client.smembers(keys.PERIODIC)}
    found = _leading(in_zset, _job)(client, page)
    return (finding for finding in found if finding.target[1] not in registered)


def _slots(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    """claim.lua clears the slots of limited tasks when it needs them; those of a task without a limit nobody."""
    for seen in page:
        limit = client.hget(keys.LIMITS_OVERRIDE, seen.holds) or client.hget(keys.LIMITS, seen.holds) or b":"
        for entry in [] if limit.rpartition(b":")[2] else client.zrange(seen.name, 0, -1):
            queue, _, member = entry.decode(errors="replace").rpartition("|")
            if client.zscore(keys.wip(queue), member) is None:
                yield Finding(SLOT, (seen.name, f"{queue}|{member}", keys.wip(queue), member))


def _needed(owner: Callable[[str], str]) -> ByKeys:
    """Finds keys that do not expire and whose owner does not exist."""

    def find(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
        staying = [(seen.name, owner(seen.holds)) for seen in page if seen.ttl_s == -1]
        for target, exists in zip(staying, asked(client, [("EXISTS", needed) for _key, needed in staying]), strict=True):
            if not exists:
                yield Finding(KEY_OF_NOTHING, target)

    return find


def _periodic(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    names = {name.decode(errors="replace") for name in client.smembers(keys.PERIODIC)}
    for seen in page:
        name = seen.name.removeprefix(keys.periodic("")).partition(":")[0]
        if name not in names:
            yield Finding(KEY_OF_NOTHING, (seen.name, keys.PERIODIC, name))


def _queues(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    named = client.smismember(keys.QUEUES, [seen.name for seen in page])
    yield from (Finding(UNLISTED, (s.name, keys.QUEUES, s.name, "")) for s, there in zip(page, named, strict=True) if not there)
    yield from _leading(_in_list, _job)(client, page)


def _held(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    queues = [key.decode(errors="replace").removeprefix(keys.queue("")) for key in client.smembers(keys.QUEUES)]
    for seen in page:
        for queue in (name for name in queues if seen.name.startswith(keys.held_jobs(name, ""))):
            task = seen.name.removeprefix(keys.held_jobs(queue, ""))
            if client.zscore(keys.held(queue), task) is None:
                yield Finding(UNLISTED, (seen.name, keys.held(queue), task, "0"))
    yield from _leading(_in_list, _job)(client, page)


def _held_tasks(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    for seen in page:
        yield from _leading(in_zset, _held_by(seen.holds))(client, [seen])


def _held_by(queue: str) -> Callable[[str], Sequence[str]]:
    return lambda task: [keys.held_jobs(queue, task)]


def _records(index: str, score: str, status: str, *open_in: str) -> ByKeys:
    """Finds open records that their index does not name."""

    def find(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
        states = asked(client, [("HGET", seen.name, status) for seen in page])
        scores = asked(client, [("ZSCORE", index, seen.holds) for seen in page])
        for seen, state, listed in zip(page, states, scores, strict=True):
            if listed is None and isinstance(state, bytes) and state.decode() in open_in:
                yield Finding(UNLISTED, (seen.name, index, seen.holds, score, status, *open_in))

    return find


def _canvas_members(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    for seen in page:
        if client.zscore(keys.CANVASES_OPEN, seen.holds) is not None:
            at_work = [str(found.start()) for found in re.finditer(b"s", client.get(seen.name) or b"")]
            exist = asked(client, [("EXISTS", keys.job(f"{seen.holds}-{node}")) for node in at_work])
            yield from (Finding(MEMBER_LOST, (seen.holds, node)) for node, there in zip(at_work, exist, strict=True) if not there)


def _buffers(_client: redis.Redis) -> Iterator[Finding]:
    return (Finding(NOT_COMING, (buffer.due, buffer.items)) for buffer in batches.BUFFERS.values())


def _batches(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    for name in (seen.holds for seen in page):
        with client.pipeline(transaction=True) as pipeline:
            n_items, n_ids = pipeline.llen(keys.batch(name)).scard(keys.batch_ids(name)).execute()
        if n_items != n_ids:
            yield Finding(IDS_DIFFER, (keys.batch(name), keys.batch_ids(name)))
        yield Finding(NOT_COMING, (keys.batch_due(name), keys.batch(name)))


def _locks(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    holders = [(holder or b"").decode(errors="replace") for holder in client.mget([seen.name for seen in page])]
    states = asked(client, [("HGET", keys.job(holder), "status") for holder in holders])
    yield from (Finding(LOCK_LEFT, (seen.name,)) for seen, state in zip(page, states, strict=True) if state in ENDED)


_of_canvas, _listed = _needed(keys.canvas), _leading(in_zset, _job)
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
        "finished": _leading(_unexpired, _job),
        "canceled": _leading(_unexpired, _job),
        "WORKERS": _leading(_in_set, lambda key: [key]),
        "workers": _leading(_in_set, lambda key: [key]),
        "running": _slots,
        "results": _needed(keys.job),
        "unique": _locks,
        "PERIODIC": _leading(_in_set, lambda name: [keys.job(definition_id(name)), keys.periodic(name)]),
        "periodic": _periodic,
        "periodic_runs": _periodic,
        "REDRIVES": _leading(_open, lambda record: [keys.redrive(record)]),
        "redrive": _records(keys.REDRIVES, "+inf", "state", "open"),
        "redrive_letters": _needed(keys.redrive),
        "CANVASES_OPEN": _leading(in_zset, lambda canvas: [keys.canvas(canvas)]),
        "canvas": _records(keys.CANVASES_OPEN, "0", "status", "running", "failed"),
        "canvas_nodes": _of_canvas,
        "canvas_states": lambda client, page: (*_of_canvas(client, page), *_canvas_members(client, page)),
        "canvas_results": _of_canvas,
        "canvas_todo": _of_canvas,
        "canvas_failed": _of_canvas,
        "batch": _batches,
        "batch_ids": _batches,
        "batch_due": _batches,
    },
)
