"""Everything in a Redis at one moment, so that a test can say what a script changed, and that it changed nothing else."""

from typing import Any

import redis

Snapshot = dict[str, Any]


def snapshot(client: redis.Redis) -> Snapshot:
    """Key -> value, in Python's types; a zset as a dict, a stream as the list of its entries' fields.

    A key that expires is followed by `key!ttl`, which says only that it does: seconds pass while a test runs.
    """
    found: Snapshot = {}
    for key in sorted(client.scan_iter(count=1_000)):
        name = key.decode(errors="replace")
        found[name] = _read(client, key)
        if client.ttl(key) >= 0:
            found[f"{name}!ttl"] = True
    return found


def changes(before: Snapshot, after: Snapshot) -> dict[str, tuple[Any, Any]]:
    """Key -> (before, after) of all that differs; None stands for a key that is not there."""
    return {key: (before.get(key), after.get(key)) for key in sorted({*before, *after}) if before.get(key) != after.get(key)}


def _read(client: redis.Redis, key: bytes) -> Any:
    kind = client.type(key).decode()
    if kind == "string":
        return _text(client.get(key))
    if kind == "hash":
        return {_text(field): _text(value) for field, value in client.hgetall(key).items()}
    if kind == "list":
        return [_text(item) for item in client.lrange(key, 0, -1)]
    if kind == "set":
        return {_text(item) for item in client.smembers(key)}
    if kind == "zset":
        return {_text(member): score for member, score in client.zrange(key, 0, -1, withscores=True)}
    return [{_text(field): _text(value) for field, value in fields.items()} for _id, fields in client.xrange(key)]


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
