"""Dead letters whose index does not say what RQ's failed registries and the jobs' hashes say."""

import time
from collections.abc import Iterator, Sequence

import redis

from jobs import keys
from jobs.queue import dead_letters
from jobs.queue.job import rq_time
from jobs.queue.orphan_entries import in_zset
from jobs.queue.orphan_jobs import CHUNK
from jobs.queue.orphans import Finding, Kind, Part, Seen, asked
from jobs.queue.script import beside

FORGET = beside(__file__, "forget")
GROUP = beside(__file__, "mend_group")
LETTER = beside(__file__, "mend_letter")
ADOPTED_WITHIN_S = 30.0
"""The scheduler makes a dead letter of what a stock worker has failed, every few seconds."""


def _forget(client: redis.Redis, finding: Finding) -> None:
    FORGET(client, [keys.QUEUES], [finding.keys[0].removeprefix(keys.job(""))])


def _adopt(client: redis.Redis, finding: Finding) -> None:
    dead_letters.adopt(client, str(finding.args[0]), finding.keys[0].removeprefix(keys.job("")), time.time())


UNTRUE = Kind("letter-untrue", "a dead letter in no failed registry or no group", "puts it right or forgets it", LETTER, _forget)
UNADOPTED = Kind("letter-unlisted", "a failed job that is not among the dead letters", "puts it among them", LETTER, _adopt)
MISCOUNTED = Kind("letter-group", "a group of dead letters that does not add up", "counts it anew", GROUP)


def _letters(client: redis.Redis, _page: Sequence[Seen]) -> Iterator[Finding]:
    for ids in in_zset(client, keys.DEAD):
        yield from (Finding(UNTRUE, (keys.job(job_id), keys.DEAD), ("",)) for job_id in ids)


def _failed(client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    recently = rq_time(time.time() - ADOPTED_WITHIN_S)
    for seen in page:
        for ids in in_zset(client, seen.name):
            yield from (Finding(UNADOPTED, (keys.job(job_id), keys.DEAD), (seen.holds, recently)) for job_id in ids)


def _groups(client: redis.Redis) -> Iterator[Finding]:
    """Groups that are not as large as they are said to be, have no name, or letters that the index of all letters lacks."""
    sizes = {name.decode(errors="replace"): size for name, size in client.zscan_iter(keys.DEAD_SIZES, count=CHUNK)}
    names = {name.decode(errors="replace") for name in client.hkeys(keys.DEAD_GROUPS)}
    prefix = keys.dead_group("")
    stored = {key.decode(errors="replace").removeprefix(prefix) for key in client.scan_iter(f"{prefix}*", count=CHUNK)}
    groups = sorted(stored | sizes.keys() | names)
    for group, size in zip(groups, asked(client, [("ZCARD", keys.dead_group(group)) for group in groups]), strict=True):
        wrong = size != sizes.get(group, 0) or (group in names) != (size != 0)
        if wrong or any(chunk and None in client.zmscore(keys.DEAD, chunk) for chunk in in_zset(client, keys.dead_group(group))):
            yield Finding(MISCOUNTED, (keys.dead_group(group),), (group,))


PART = Part(whole=[_groups], named={"DEAD": _letters, "failed": _failed})
