"""Keys that jobs/keys.py does not list, that have another type than it says, or no expiry where it says that all have one."""

import contextlib
from collections.abc import Iterator, Sequence

import redis

from jobs import key_patterns
from jobs.queue.orphans import Finding, Kind, Part, Seen, Target


def _unknown(client: redis.Redis, target: Target, act: bool) -> bool:
    del act  # nobody knows whose it is
    return not key_patterns.of(target[0]) and bool(client.exists(target[0]))


def _other_type(client: redis.Redis, target: Target, act: bool) -> bool:
    del act  # there is no telling which of the two is right
    kind = client.type(target[0]).decode()
    return kind != "none" and kind not in {entry.type for entry in key_patterns.of(target[0])}


def _for_ever(client: redis.Redis, target: Target, act: bool) -> bool:
    key, ttl_s = target
    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch(key)  # an expiry that its writer gives it in the meantime stays
        wrong = int(pipeline.ttl(key)) == -1
        pipeline.multi()
        if wrong and act:
            pipeline.expire(key, int(ttl_s))
        with contextlib.suppress(redis.exceptions.WatchError):
            pipeline.execute()
    return wrong


UNKNOWN = Kind("key-unknown", "a key that jobs/keys.py does not list", "", _unknown)
OTHER_TYPE = Kind("key-type", "a key of another type than jobs/keys.py says", "", _other_type)
FOR_EVER = Kind("key-for-ever", "a key without the expiry that all of its kind have", "gives it one", _for_ever)


def _keys(_client: redis.Redis, page: Sequence[Seen]) -> Iterator[Finding]:
    for seen in page:
        if seen.type == "none":  # gone since
            continue
        if seen.entry is None:
            yield Finding(UNKNOWN, (seen.name,))
        elif seen.type != seen.entry.type and not seen.entry.any_type:
            yield Finding(OTHER_TYPE, (seen.name,))
        if seen.entry and seen.ttl_s == -1 and seen.entry.name in key_patterns.EXPIRING:
            yield Finding(FOR_EVER, (seen.name, str(key_patterns.EXPIRING[seen.entry.name])))


PART = Part(every=[_keys])
