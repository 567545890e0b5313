"""Dead letters whose index does not say what RQ's failed registries and the jobs' hashes say."""

import time
from collections.abc import Iterator, Sequence

import redis

from jobs import keys
from jobs.queue import dead_letters
from jobs.queue.job import rq_time
from jobs.queue.orphan_entries import in_zset
from jobs.queue.orphan_jobs import CHUNK
from jobs.queue.orphans import Finding, Kind, Part, Seen, Target, asked
from jobs.queue.script import beside

FORGET = beside(__file__, "forget")
GROUP = beside(__file__, "mend_group")
ADOPTED_WITHIN_S = 30.0
"""The scheduler makes a dead letter of what a stock worker has failed, every few seconds."""


def _untrue(client: redis.Redis, target: Target, act: bool) -> bool:
    [job_id] = target
    queue, group = (_text(part) for part in client.hmget(keys.job(job_id), "origin", "group"))
    with client.pipeline(transaction=True) as pipeline:
        pipeline.zscore(keys.DEAD, job_id)
        pipeline.zscore(keys.failed(queue), job_id)
        pipeline.zscore(keys.dead_group(group), job_id)
        died_at, failed, grouped = pipeline.execute()
    wrong = died_at is not None and (failed is None or grouped is None)
    if wrong and act:
        FORGET(client, [keys.QUEUES], [job_id])
    return wrong


def _unadopted(client: redis.Redis, target: Target, act: bool) -> bool:
    queue, job_id = target
    with client.pipeline(transaction=True) as pipeline:
        pipeline.zscore(keys.failed(queue), job_id)
        pipeline.zscore(keys.DEAD, job_id)
        pipeline.hmget(keys.job(job_id), "status", "ended_at")
        failed, died_at, (status, ended_at) = pipeline.execute()
    now = time.time()
    is_new = ended_at is not None and ended_at > rq_time(now - ADOPTED_WITHIN_S).encode()
    wrong = failed is not None and died_at is None and status is not None and not is_new
    return dead_letters.adopt(client, queue, job_id, now) if wrong and act else wrong


def _miscounted(client: redis.Redis, target: Target, act: bool) -> int:
    return int(GROUP(client, [keys.dead_group(target[0])], [target[0], int(act)]))


UNTRUE = Kind("letter-untrue", "a dead letter in no failed registry or in no group", "puts it right or forgets it", _untrue)
UNADOPTED = Kind("letter-unlisted", "a failed job that is not among the dead letters", "puts it among them", _unadopted)
MISCOUNTED = Kind("letter-group", "a group of dead letters that does not add up", "counts it anew", _miscounted)


def _letters(client: redis.Redis, _page: Sequence[Seen]) -> Iterator[Finding]:
    for ids in in_zset(client, keys.DEAD):
        for job_id, places in zip(ids, _places(client, ids), strict=True):
            if None in places:
                yield Finding(UNTRUE, (job_id,))


def _places(client: redis.Redis, ids: Sequence[str]) -> list[list[float | None]]:
    """The scores of letters in their failed registry and in their group."""
    hashes = asked(client, [("HMGET", keys.job(job_id), "origin", "group") for job_id in ids])
    texts = [[_text(part) for part in found] if isinstance(found, list) else ["", ""] for found in hashes]
    failed = asked(client, [("ZSCORE", keys.failed(queue), job_id) for job_id, (queue, _group) in zip(ids, texts, strict=True)])
    grouped = asked(client, [("ZSCORE", keys.dead_group(group), job_id) for job_id, (_, group) in zip(ids, texts, strict=True)])
    return [list(pair) for pair in zip(failed, grouped, strict=True)]


def _text(part: bytes | None) -> str:
    return (part or b"").decode(errors="replace")


def _failed(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    for seen in page:
        for ids in in_zset(client, seen.name):
            scores = client.zmscore(keys.DEAD, ids) if ids else []
            yield from (Finding(UNADOPTED, (seen.holds, i)) for i, died_at in zip(ids, scores, strict=True) if died_at is None)


def _groups(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    """Groups with letters that the index of all letters lacks; mend_group.lua reads a group as a whole."""
    for seen in page:
        for chunk in in_zset(client, seen.name):
            if chunk and None in client.zmscore(keys.DEAD, chunk):
                yield Finding(MISCOUNTED, (seen.holds,))


def _counted(client: redis.Redis) -> Iterator[Finding]:
    """Groups that are not as large as they are said to be, or have no name."""
    sizes = {name.decode(errors="replace"): size for name, size in client.zscan_iter(keys.DEAD_SIZES, count=CHUNK)}
    names = {name.decode(errors="replace") for name in client.hkeys(keys.DEAD_GROUPS)}
    prefix = keys.dead_group("")
    stored = {key.decode(errors="replace").removeprefix(prefix) for key in client.scan_iter(f"{prefix}*", count=CHUNK)}
    groups = sorted(stored | sizes.keys() | names)
    for group, size in zip(groups, asked(client, [("ZCARD", keys.dead_group(group)) for group in groups]), strict=True):
        if size != sizes.get(group, 0) or (group in names) != (size != 0):
            yield Finding(MISCOUNTED, (group,))


PART = Part(whole=[_counted], named={"DEAD": _letters, "failed": _failed, "dead_group": _groups})
